"""What a picture of a grid has on its axes: layers up, heads or tokens across, and the range of its colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.vocabulary import Curve, Reading, Tokens

LONGEST = 14
"""Characters of a token on an axis."""


@dataclass(frozen=True)
class Grid:
    """The recoveries of a grid: a row a layer, a column a head, a position, or a head at a position.

    `columns` name the columns and `across` says what they are. A cell that nobody answered is None.
    """

    layers: tuple[int, ...]
    columns: tuple[str, ...]
    across: str
    cells: tuple[tuple[Reading | None, ...], ...]


def grid_of(curve: Curve, tokens: Sequence[str] = ()) -> Grid:
    """Return the grid of a curve; `tokens` are the texts at its positions, as `axis_tokens` gives them."""
    found = {key: cell.recovery for cell in curve.cells if isinstance(key := curve.key(cell), tuple)}
    layers = sorted({key[0] for key in found})
    columns = sorted({key[1:] for key in found})
    by_head = curve.cells[0].head is not None
    across = "head, position" if columns and len(columns[0]) > 1 else "head" if by_head else "position"
    return Grid(
        tuple(layers),
        tuple(_column(key, by_head, tokens) for key in columns),
        across,
        tuple(tuple(found.get((layer, *column)) for column in columns) for layer in layers),
    )


def axis_tokens(clean: Tokens | None, corrupted: Tokens | None) -> tuple[str, ...]:
    """Return what stands at each position: the token, or `clean/corrupted` where the prompts differ.

    Nothing where the texts are not known.
    """
    if clean is None or corrupted is None or not (clean.texts and corrupted.texts):
        return ()
    pairs = zip(clean.texts, corrupted.texts, strict=False)
    return tuple(_cut(a) if a == b else f"{_cut(a)}/{_cut(b)}" for a, b in pairs)


def reach(readings: Iterable[Reading | None]) -> float:
    """Return the percentage at both ends of a colour scale that has 0 in its middle: the largest move there is."""
    return max((abs(each.value) for each in readings if each and each.value is not None), default=0.0) or 1.0


def _column(key: tuple[int, ...], by_head: bool, tokens: Sequence[str]) -> str:
    number = ".".join(map(str, key))
    at = key[-1] if not by_head or len(key) > 1 else None
    return f"{number} {tokens[at]}" if at is not None and at < len(tokens) else number


def _cut(text: str) -> str:
    shown = text.strip() or repr(text)[1:-1]
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"
