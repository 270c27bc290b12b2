"""Numbers of things in a sentence."""

from __future__ import annotations


def number_of(count: int, one: str, many: str = "") -> str:
    """Return `1 cell` or `1,024 cells`; `many` where the plural has no `s` at its end."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
