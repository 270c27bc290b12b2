"""From the answers to several pairs of prompts to one: a mean in every cell, with the reading of each pair beside it.

A cell that an engine does not answer for a pair, or a pair that it does not answer at all (None), is `undefined` there:
it is counted, and never left out of the count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from harness.metrics.pairs import mean_of, spread_of
from harness.vocabulary import Answer, Cell, Curve, Finding, Reading, State
from harness.vocabulary.words import number_of

_ABSENT = Reading.absent(State.UNDEFINED)


def over_pairs(answers: Sequence[Answer | None]) -> Answer:
    """Return the answer whose numbers are means over the pairs. What is said of single runs stays with the pairs.

    Raises ValueError where no pair has an answer.
    """
    given = [answer for answer in answers if answer is not None]
    if not given:
        raise ValueError("no pair has an answer")
    return replace(
        given[0],
        strategy=" and ".join(dict.fromkeys(answer.strategy for answer in given)),
        curves=_curves(answers),
        patched={},
        answers=None,
        suppressed=tuple(sorted({token for answer in given for token in answer.suppressed})),
        fallback="; ".join(in_pairs([answer.fallback if answer else None for answer in answers])) or None,
        proven_on=max(answer.proven_on for answer in given),
        concordances=(),
        stopped="; ".join(in_pairs([answer.stopped if answer else None for answer in answers])) or None,
        memory=max((answer.memory for answer in given if answer.memory), key=lambda each: each.predicted, default=None),
        mistakes={},
        attribution=(),
        unasked=(),
        unanswered=tuple(dict.fromkeys(each for answer in given for each in answer.unanswered)),
        printed="".join(dict.fromkeys(answer.printed for answer in given)),
    )


def in_pairs(texts: Sequence[str | None]) -> list[str]:
    """Return what is said of pairs, the same once: `pairs 3 and 7: ...`, or bare where it is said of all of them."""
    said: dict[str, list[int]] = {}
    for number, text in enumerate(texts, 1):
        if text:
            said.setdefault(text, []).append(number)
    return [text if len(where) == len(texts) else f"{named(where)}: {text}" for text, where in said.items()]


_SHOWN = 6
"""Numbers of pairs in a text; of more, how many there are."""


def named(pairs: Sequence[int]) -> str:
    """Return such as `pair 3`, `pairs 3 and 7`, or `12 pairs (1, 2, 3, 5, 8, 9, ...)`; pairs are counted from 1."""
    if len(pairs) > _SHOWN:
        return f"{number_of(len(pairs), 'pair')} ({', '.join(map(str, pairs[:_SHOWN]))}, ...)"
    *most, last = map(str, pairs)
    return f"pairs {', '.join(most)} and {last}" if most else f"pair {last}"


def said_of_pairs(found: Sequence[Sequence[Finding]]) -> list[Finding]:
    """Return the findings of all pairs, each with the pairs that have it in its text and its evidence.

    Findings alike in code, place and words are one.
    """
    return list(_said(found))


def _said(found: Sequence[Sequence[Finding]]) -> Iterator[Finding]:
    alike: dict[tuple[object, ...], tuple[Finding, list[int]]] = {}
    for number, findings in enumerate(found, 1):
        for each in findings:
            where = alike.setdefault((each.code, each.message, each.site, each.metric), (each, []))[1]
            if number not in where:
                where.append(number)
    for each, pairs in alike.values():
        whose = "every pair" if len(pairs) == len(found) > 1 else named(pairs)
        yield replace(each, message=f"{whose}: {each.message}", evidence={**each.evidence, "pairs": pairs})


def _curves(answers: Sequence[Answer | None]) -> tuple[Curve, ...]:
    by_key = [
        {} if each is None else {(curve.component, curve.metric): curve for curve in each.curves} for each in answers
    ]
    keys = dict.fromkeys(key for curves in by_key for key in curves)
    return tuple(_curve([curves.get(key) for curves in by_key]) for key in keys)


def _curve(curves: Sequence[Curve | None]) -> Curve:
    given = [curve for curve in curves if curve is not None]
    by_key = [{} if curve is None else {_place(cell): cell for cell in curve.cells} for curve in curves]
    places = dict.fromkeys(place for cells in by_key for place in cells)
    baselines = [curve.baseline if curve else _ABSENT for curve in curves]
    return replace(
        given[0],
        baseline=mean_of(baselines),
        oracle_baseline=mean_of(curve.oracle_baseline if curve else _ABSENT for curve in curves),
        cells=tuple(_cell([cells.get(place) for cells in by_key]) for place in places),
        headroom=_of_any(min, (curve.headroom for curve in given)),
        shift_share=_of_any(max, (curve.shift_share for curve in given)),
        denominator=None,
        pairs=spread_of(baselines),
    )


def _place(cell: Cell) -> tuple[int, str, int | None]:
    return cell.layer, cell.position, cell.head


def _cell(cells: Sequence[Cell | None]) -> Cell:
    given = [cell for cell in cells if cell is not None]
    readings = [cell.recovery if cell else _ABSENT for cell in cells]
    bars = [Reading.of(cell.precision) for cell in given if cell.precision is not None]
    return replace(
        given[0],
        recovery=mean_of(readings),
        oracle=mean_of(cell.oracle if cell else _ABSENT for cell in cells),
        precision=mean_of(bars).value,
        pairs=spread_of(readings),
    )


def _of_any(choose: Callable[[list[float]], float], values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return choose(known) if known else None
