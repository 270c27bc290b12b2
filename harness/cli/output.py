"""What a program reads: JSON on standard output and nothing else there, or the commands of a runner."""

from __future__ import annotations

import sys
from typing import Any

import click

from harness.support.screen import Screen
from harness.vocabulary.visible import json_text


def print_json(value: Any) -> None:
    """Print JSON types. Raises ValueError on a number that is not finite, which no JSON holds."""
    click.echo(json_text(value))


def print_commands(text: str) -> None:
    """Print lines that GitHub's runner is meant to obey."""
    if isinstance(sys.stdout, Screen):
        sys.stdout.commands(text)
    else:
        click.echo(text, nl=False)
