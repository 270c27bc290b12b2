"""What a program reads: JSON on standard output and nothing else there, or the commands of a runner; and complaints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from harness.support.files import write_text
from harness.support.screen import Screen
from harness.vocabulary.visible import json_text


def put_json(value: Any, file: Path) -> None:
    """Write JSON types to a file, or print them where it is `-`. Raises ValueError on a number that is not finite,
    which no JSON holds."""
    if str(file) == "-":
        click.echo(json_text(value))
    else:
        write_text(file, json_text(value) + "\n")
        click.echo(f"written: {file}")


def complain(*lines: str) -> None:
    """Write what went wrong to standard error; more lines inside of one are set in: none looks ours."""
    click.echo("harness: " + "\n".join(line.replace("\n", "\n  ") for line in lines), err=True)


def print_commands(text: str) -> None:
    """Print lines that GitHub's runner is meant to obey."""
    if isinstance(sys.stdout, Screen):
        sys.stdout.commands(text)
    else:
        click.echo(text, nl=False)
