"""What a script reads: JSON on standard output, and nothing else there."""

from __future__ import annotations

import json
from typing import Any

import click


def print_json(value: Any) -> None:
    """Print JSON types. Raises ValueError on a number that is not finite, which no JSON holds."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))
