"""The questions that an engine may have answered instead of the one that it was asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from harness.vocabulary import AnswerTokens, Direction, Positions, Question, positions_text


class OtherQuestion(NamedTuple):
    """Another question about one component under one metric: the kind of the mistake, and what was answered."""

    kind: str
    said: str
    question: Question


def other_questions(
    asked: Question, components: Iterable[str], metrics: Iterable[str], lists: Iterable[Positions] = ()
) -> Iterator[OtherQuestion]:
    """Yield what a question about one component under one metric may have been mistaken for.

    `components` and `metrics` are those that the engine knows besides, `lists` the token indices that it was asked for.
    """
    sweep = asked.sweep
    (component,), (metric,) = sweep.components, asked.metrics
    other = next(each for each in Direction if each != sweep.direction)
    noising = replace(asked, sweep=replace(sweep, direction=other))
    yield OtherQuestion("direction", f"{other} is answered where {sweep.direction} is asked", noising)
    yield OtherQuestion("prompts exchanged", "clean and corrupted are exchanged", _exchanged(asked))
    said = "the metric's clean and corrupted runs are exchanged"
    yield OtherQuestion("prompts exchanged", said, _exchanged(noising))
    if ids := asked.answers:
        turned = replace(asked, answers=AnswerTokens(ids.wrong, ids.answer))
        yield OtherQuestion("answers exchanged", "the answer and the wrong answer are exchanged", turned)
    for positions in ("all", "last", *lists) if sweep.positions != "each" else ():
        if positions != sweep.positions:
            said = f"positions {positions_text(positions)} where {positions_text(sweep.positions)} is asked"
            yield OtherQuestion("positions", said, replace(asked, sweep=replace(sweep, positions=positions)))
    for name in components:
        if name != component:
            said = f"component {name} where {component} is asked"
            yield OtherQuestion("component", said, replace(asked, sweep=replace(sweep, components=(name,))))
    for name in metrics:
        if name != metric:
            yield OtherQuestion("metric", f"metric {name} where {metric} is asked", replace(asked, metrics=(name,)))


def _exchanged(asked: Question) -> Question:
    return replace(asked, clean=asked.corrupted, corrupted=asked.clean)
