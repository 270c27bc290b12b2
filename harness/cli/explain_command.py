"""`harness explain`: what a finding means, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.cli.completers import codes
from harness.cli.help import Helped
from harness.vocabulary.errors import UnknownName, UsageError
from harness.vocabulary.findings import FINDINGS

if TYPE_CHECKING:
    from harness.vocabulary.findings.pages import Page


@click.command("explain", cls=Helped)
@click.argument("what", nargs=-1, shell_complete=codes)
def command(what: tuple[str, ...]) -> None:
    """Explain a finding code, or find the codes behind what was seen.

    WHAT is a code such as FIN004, or words of a symptom such as '!!!!' or 'all recoveries nan'; without it, every code
    is listed.
    """
    asked = " ".join(what).strip()
    if not asked:
        _print_list(list(FINDINGS))
        return
    from harness.vocabulary.findings.pages import page

    _print(page(asked.upper()) if asked.upper() in FINDINGS else _found(asked))


def _found(asked: str) -> Page | list[str]:
    """Return the page, or the codes, of what was seen. Raises UsageError where nothing fits."""
    from harness.vocabulary.findings.pages import search

    if asked.isalnum() and asked[-1].isdecimal() and " " not in asked:
        raise UnknownName("finding code", asked.upper(), FINDINGS)
    pages = search(asked, FINDINGS)
    if not pages:
        raise UsageError(f"no page about findings has {asked!r}; `harness explain` lists the codes")
    return pages[0] if len(pages) == 1 else [each.code for each in pages]


def _print(found: Page | list[str]) -> None:
    from rich.markdown import Markdown

    from harness.results.reports.terminal import console

    screen = console(keep="\n")
    if isinstance(found, list):
        _print_list(found)
    elif screen.is_terminal:
        screen.print(Markdown(found.text))
    else:
        click.echo(found.text, nl=False)


def _print_list(codes: list[str]) -> None:
    for code in codes:
        kind = FINDINGS[code]
        click.echo(f"{code}  {kind.severity:<8} {kind.subject:<12} {kind.title}")
    click.echo(f"\nharness explain {codes[0]}", err=True)
