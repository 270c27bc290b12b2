"""Which mistake makes one set of recoveries out of another: the pattern of what an engine says over what is right.

A pattern is named only where it explains every cell that both sides have, within the tolerance of the comparison, and
where the cells could have told: one factor through one cell says nothing. Without a pattern no cause is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.vocabulary import Cell, Mistake, Reading
from harness.vocabulary.answers import UNEXPLAINED
from harness.vocabulary.words import number_of

Place = tuple[int, str, int | None]
"""A layer, the positions as a site names them, and a head."""

Numbers = Mapping[Place, Reading]
"""Recoveries in percent."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Suspicion:
    """A question that may have been answered instead of the one that was asked, with its recoveries."""

    kind: str
    said: str
    numbers: Numbers


def mistakes_of(
    said: Numbers, right: Numbers, points: float, suspicions: Callable[[], Iterable[Suspicion]] = tuple
) -> list[Mistake]:
    """Return every mistake that explains recoveries which differ from the right ones by more than `points`, the
    simplest first; empty where none do differ, and one that says so where nothing explains them.

    `suspicions` makes the answers to other questions, and is called only where states explain nothing.
    """
    wrong = wrong_places(said, right, points)
    if not wrong:
        return []
    found = list(_by_state(said, right, wrong))
    if not found:
        suspects = (Mistake(each.kind, each.said) for each in suspicions() if _explains(said, each.numbers, points))
        found = [*_by_arithmetic(*_columns(said, right), points), *_by_place(said, right, points), *suspects]
    return found or [_unexplained(said, right, wrong)]


Pairs = Sequence[tuple[Cell, Reading, Reading]]
"""Cells with what was said of them and what is right."""


def mistake_in(pairs: Pairs, points: float, suspicions: Callable[[], Iterable[Suspicion]] = tuple) -> Mistake | None:
    """Return the one mistake that explains every cell, or the few that do so alike; None where nothing known does.

    Other questions are asked, by `suspicions`, only where neither arithmetic nor the order of the cells is enough.
    """
    said = {_place(cell): reading for cell, reading, _ in pairs}
    right = {_place(cell): reading for cell, _, reading in pairs}
    wrong = wrong_places(said, right, points)
    if not wrong:
        return None
    if state := next(_by_state(said, right, wrong), None):
        return state
    found = [each for each in mistakes_of(said, right, points) if each.is_rule]
    return one_of(found or [each for each in mistakes_of(said, right, points, suspicions) if each.is_rule])


def one_of(found: Sequence[Mistake]) -> Mistake | None:
    """Return what several mistakes that explain the same cells come to: one of them, and nobody can say which."""
    by_kind = list({each.kind: each for each in reversed(found)}.values())[::-1]
    if len(by_kind) < 2:
        return by_kind[0] if by_kind else None
    remedies = dict.fromkeys(each.remedy for each in by_kind if each.remedy)
    said = "; or ".join(each.said for each in by_kind)
    return Mistake(" or ".join(each.kind for each in by_kind), f"one of: {said}", "; or ".join(remedies))


def _place(cell: Cell) -> Place:
    return cell.layer, cell.position, cell.head


def wrong_places(said: Numbers, right: Numbers, points: float) -> list[Place]:
    """Return where what was said is not what is right."""
    return [at for at in right if not agree(said.get(at), right[at], points)]


def shared_mistake(answers: Sequence[tuple[Numbers, Numbers]], points: float) -> Mistake | None:
    """Return the arithmetic that makes what was said of what is right in all these answers together, if one does.

    Each answer is what was said and what is right. A component whose recoveries are all 100 % tells a factor from an
    offset only beside another.
    """
    columns = [_columns(said, right) for said, right in answers]
    said, right = (np.concatenate([column[side] for column in columns]) for side in (0, 1))
    return next(_by_arithmetic(said, right, points), None)


def agree(one: Reading | None, other: Reading, points: float) -> bool:
    """Return whether a reading is the other within a tolerance; without a value, whether neither has one."""
    if one is None or one.value is None or other.value is None:
        return one is not None and one.finite is other.finite
    return abs(one.value - other.value) <= points


# -- states ------------------------------------------------------------------------------------------------------------


def _by_state(said: Numbers, right: Numbers, wrong: list[Place]) -> Iterator[Mistake]:
    """Yield what is wrong about which cells have a number at all."""
    absent = [at for at in wrong if at not in said]
    wrong = [at for at in wrong if at in said]
    if absent:
        yield Mistake("missing", f"{_share(absent, right)} have no answer", "answer every cell that is asked for")
    invented = [at for at in wrong if right[at].value is None and said[at].value is not None]
    if invented:
        values = {round(said[at].value or 0.0, 6) for at in invented}
        shown = f"{values.pop():g} %" if len(values) == 1 else "a number"
        yield Mistake(
            "invented",
            f"{shown} in {_share(invented, right)} where the recovery is {right[invented[0]].state}",
            "report the state (None, nan) instead of guarding the division",
        )
    lost = [at for at in wrong if right[at].value is not None and said[at].value is None]
    if lost:
        states = {said[at].state for at in lost}
        word = " and ".join(sorted(state.value for state in states))
        yield Mistake(
            f"{word} where finite",
            f"{word} in {_share(lost, right)} where the recovery is finite",
            "look for the first step that is not finite: a distance, the baseline, or the division by it",
        )


# -- arithmetic --------------------------------------------------------------------------------------------------------

FACTORS: tuple[tuple[float, str, str], ...] = (
    (0.01, "fractions where percent is declared", 'declare "units": "fraction", or multiply by 100'),
    (100.0, "percent where fractions are declared", 'declare "units": "percent"'),
    (-1.0, "the sign is reversed", "recovery is positive where the patch moves the output towards the clean run"),
    (-0.01, "fractions with the sign reversed", 'declare "units": "fraction", and reverse the sign'),
    (1 / math.log(2), "bits where nats are expected", "use the natural logarithm"),
    (math.log(2), "nats where bits are expected", "use one logarithm throughout"),
    (2.0, "twice the recovery", ""),
    (0.5, "half the recovery", ""),
)
"""Factors with a usual reason; any other is named by its number."""

_RELATIVE = 2e-3

_ROUNDING = 0.02
"""Share of the points that two equal recoveries may differ by which rounding scatters the cells by, whatever they show:
a few cells may lie on a line by chance."""


def _columns(said: Numbers, right: Numbers) -> tuple[Floats, Floats]:
    """Return what was said and what is right as arrays `[cells]`, of the cells where both have a number."""
    both = [(said[at].value, right[at].value) for at in right if at in said]
    pairs = np.array([pair for pair in both if None not in pair], dtype=np.float64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _by_arithmetic(said: Floats, right: Floats, points: float) -> Iterator[Mistake]:
    """Yield the formulas that make what was said of what is right, the simplest first."""
    if len(said) and float(np.ptp(said)) <= _RELATIVE * points:
        # Right numbers that are alike as well would make any formula fit.
        if len(said) > 1 and (said[0] in (0.0, 100.0) or float(np.ptp(right)) > 4 * points):
            yield _constant(float(said[0]))
        return
    if len(said) < 2 or float(np.ptp(right)) <= 4 * points or bool(np.all(np.abs(said - right) <= points)):
        return
    usual = list(_by_formula(said, right, points))
    if not usual and len(np.unique(np.round(right / (4 * points)))) >= 3:
        usual = list(_by_line(said, right, points))[:1]
    yield from usual


def _by_formula(said: Floats, right: Floats, points: float) -> Iterator[Mistake]:
    for factor, what, remedy in FACTORS:
        if _fits(said, factor * right, abs(factor) * points) and _is_factor(said, right, factor, points):
            yield Mistake(f"factor {factor:.4g}", f"{what}: every recovery is {factor:.4g} times the right one", remedy)
    for kind, text, made, remedy in _FORMULAS:
        if _fits(said, made(right), points):
            yield Mistake(kind, text, remedy)


def _by_line(said: Floats, right: Floats, points: float) -> Iterator[Mistake]:
    """Yield a factor, an offset or both that no usual reason is known for; at least three right numbers differ."""
    factor = _factor(said, right)
    if abs(factor) > _RELATIVE and _fits(said, factor * right, abs(factor) * points):
        text = f"every recovery is {factor:.4g} times the right one"
        yield Mistake(f"factor {factor:.3g}", text, "the baseline that it is divided by is another one")
    offset = float(np.median(said - right))
    if _fits(said, right + offset, points):
        yield Mistake("offset", f"every recovery is {offset:+.4g} points off")
    slope, offset = map(float, np.polyfit(right, said, 1))
    if abs(slope) > _RELATIVE and _fits(said, slope * right + offset, min(1.0, abs(slope)) * points):
        yield Mistake("linear", f"every recovery is {slope:.4g} times the right one, {offset:+.4g} points")


def _factor(said: Floats, right: Floats) -> float:
    """Return the factor that makes most of the cells, by least squares."""
    return float(said @ right / (right @ right))


def _is_factor(said: Floats, right: Floats, factor: float, points: float) -> bool:
    """Return whether the cells have this very factor, up to three standard errors of the one that they show: 0.7 is
    not the logarithm of 2."""
    shown = _factor(said, right)
    scatter = float(np.linalg.norm(said - shown * right)) / math.sqrt(len(said) - 1)
    error = max(scatter, abs(factor) * _ROUNDING * points) / float(np.linalg.norm(right))
    return abs(shown - factor) <= _RELATIVE * abs(factor) + 3 * error


def _fits(said: Floats, made: Floats, points: float) -> bool:
    return bool(np.all(np.abs(said - made) <= points + _RELATIVE * np.abs(made)))


_FORMULAS: tuple[tuple[str, str, Callable[[Floats], Floats], str], ...] = (
    ("complement", "100 % minus the recovery: what is left, not what came back", lambda x: 100 - x, ""),
    ("absolute value", "the absolute value of the recovery", np.abs, "a patch may move the output away: keep the sign"),
    ("clipped below", "negative recoveries are reported as 0 %", lambda x: np.maximum(x, 0), "keep the sign"),
    ("clipped above", "recoveries over 100 % are reported as 100 %", lambda x: np.minimum(x, 100), ""),
    (
        "clipped",
        "the recovery cut to 0..100 %",
        lambda x: np.clip(x, 0, 100),
        "report what is outside of 0..100 % as it is",
    ),
    (
        "squared",
        "recoveries of squared distances (mse), not of distances",
        lambda x: 100 * (1 - np.square(1 - x / 100)),
        "take the square root of the sum of squares",
    ),
    (
        "not squared",
        "recoveries of distances (l2), not of squared ones",
        lambda x: 100 * (1 - np.sqrt(np.maximum(1 - x / 100, 0))),
        "do not take the square root",
    ),
)
"""Kind, words, formula over the right recoveries in percent, remedy."""


def _constant(value: float) -> Mistake:
    remedy = "nothing is patched, or the result is not computed from the patched run" if value in (0.0, 100.0) else ""
    return Mistake("constant", f"the same {value + 0.0:g} % in every cell", remedy)


# -- places ------------------------------------------------------------------------------------------------------------


def _by_place(said: Numbers, right: Numbers, points: float) -> Iterator[Mistake]:
    """Yield the shifts of layers, positions or heads that make what was said of what is right."""
    for axis, name in enumerate(("layer", "position", "head")):
        labels = _labels(right, axis)
        for by in (1, -1, 2, -2):
            moved = dict(zip(labels, labels[by:] if by > 0 else [None] * -by + labels[:by], strict=False))
            if found := _relabelled(said, right, axis, moved, points):
                yield Mistake(
                    f"{name} shifted",
                    f"answers for {name} {'k' if name == 'layer' else 'i'}{by:+d} in {found}",
                    f"an index of {name}s is off by {abs(by)}",
                )
        if found := _relabelled(said, right, axis, dict(zip(labels, reversed(labels), strict=True)), points):
            yield Mistake(f"{name}s reversed", f"answers for the {name}s in reverse order in {found}")


def _labels(right: Numbers, axis: int) -> list[object]:
    every = dict.fromkeys(at[axis] for at in right)
    numbers = [label for label in every if isinstance(label, int) or (isinstance(label, str) and label.isdigit())]
    return sorted(numbers, key=lambda label: int(label))  # type: ignore[call-overload]


def _relabelled(said: Numbers, right: Numbers, axis: int, moved: Mapping[object, object], points: float) -> str | None:
    """Return "3 of 4 cells" where the cells say what is right at the moved label; None where any says otherwise."""
    told = 0
    for at in said:
        other = moved.get(at[axis])
        there = tuple(other if i == axis else part for i, part in enumerate(at))
        if other is None or there not in right:
            continue
        if not agree(said[at], right[there], points):  # type: ignore[index]
            return None
        told += at in right and not agree(right[at], right[there], points)  # type: ignore[index]
    return f"{told} of {number_of(len(right), 'cell')}" if told >= 2 or (told and len(right) <= 2) else None


def _explains(said: Numbers, other: Numbers, points: float) -> bool:
    """Return whether another question's answer is what was said in every cell that both have."""
    common = [at for at in said if at in other]
    return bool(common) and all(agree(said[at], other[at], points) for at in common)


def _unexplained(said: Numbers, right: Numbers, wrong: list[Place]) -> Mistake:
    worst = max(wrong, key=lambda at: abs((said[at].value or 0.0) - (right[at].value or 0.0)))
    layer, position, head = worst
    where = f"layer {layer}" + ("" if position == "all" else f", position {position}")
    where += "" if head is None else f", head {head}"
    shown = f"{where} says {said[worst].text('.2f')} %, right is {right[worst].text('.2f')} %"
    text = f"{_share(wrong, right)} are wrong"
    if only := _only(wrong, right):
        return Mistake(f"one {only[0]}", f"{only[1]} is wrong, and nothing else: {shown}")
    return Mistake(UNEXPLAINED, f"{text}, by no rule that is known here: {shown}")


def _only(wrong: list[Place], right: Numbers) -> tuple[str, str] | None:
    """Return the axis and the one layer, position or head that is wrong, where all of it is and nothing else."""
    for axis, name in enumerate(("layer", "position", "head")):
        labels = {at[axis] for at in wrong}
        every = [at for at in right if at[axis] in labels]
        # Cells where the mistake makes no difference are right by accident.
        if len(labels) == 1 and len(every) < len(right) and len(wrong) >= len(every) / 2:
            return name, f"{name} {labels.pop()}"
    return None


def _share(some: list[Place], right: Numbers) -> str:
    return f"{len(some)} of {number_of(len(right), 'cell')}"
