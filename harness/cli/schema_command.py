"""`harness schema`: the published schemas, for editors and for whoever reads results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from harness.cli.help import Helped
from harness.vocabulary.visible import json_text


def _case() -> dict[str, Any]:
    from harness.casefile.language.published import case_schema

    return case_schema()


def _defaults() -> dict[str, Any]:
    from harness.casefile.language.published import defaults_schema

    return defaults_schema()


def _models() -> dict[str, Any]:
    from harness.models.table import schema

    return schema()


def _result() -> dict[str, Any]:
    from harness.results.json import schema

    return schema()


SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {
    "case": _case,
    "defaults": _defaults,
    "models": _models,
    "result": _result,
}


def text_of(name: str) -> str:
    """Return one of `SCHEMAS` as the text that is printed, and kept in docs/."""
    return json_text(SCHEMAS[name]()) + "\n"


@click.command("schema", cls=Helped)
@click.argument("name", default="case", metavar="[case|defaults|models|result]")
def command(name: str) -> None:
    """Print the JSON Schema of cases, model tables or results.

    In a case file, `# yaml-language-server: $schema=FILE` as the first line gives an editor completion and errors.
    """
    from harness.vocabulary.errors import UnknownName

    if name not in SCHEMAS:
        raise UnknownName("schema", name, SCHEMAS)
    click.echo(text_of(name), nl=False)
