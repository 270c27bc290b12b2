"""A job of several pairs of prompts: what is asked of the model for each, and what is said of all.

Every pair is one question, answered and checked like that of a case of one pair. What the case states of its numbers
(`expect`), and how alike its metrics rank the cells, is asked of the means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from harness.casefile import Case, Expect
from harness.engines.paired_questions import questions_over
from harness.engines.pairs import named, over_pairs
from harness.models.loaded import LoadedModel
from harness.models.tokens import read_mean_of, read_prompts
from harness.vocabulary import Answer, AskedPair, Question
from harness.vocabulary.errors import Unsupported
from harness.vocabulary.raised import SweepInterrupted

OF_THE_MEAN = ("known-answer", "metric-comparison")
"""Checks that look at what a case states or shows, which are means; `expectation` is always one of them."""


def questions_of(case: Case, model: LoadedModel, metrics: Sequence[str]) -> tuple[Question, ...]:
    """Return what a case asks of one model, a question for each pair. Raises PromptError where it cannot be asked."""
    mean_of = read_mean_of(model, case.sweep.mean_of or (), special=case.pairs[0].special_tokens)
    if case.is_averaged:
        return questions_over(model, case.pairs, case.asked_sweep, metrics, mean_of)
    clean, corrupted, answers = read_prompts(model, case.pairs[0])
    return (Question(clean, corrupted, case.asked_sweep, tuple(metrics), answers, mean_of),)


def asked_pairs(questions: Sequence[Question], answers: Sequence[Answer | None] = ()) -> tuple[AskedPair, ...]:
    """Return the pairs as a result holds them; where the runs were asked for the answers, with theirs."""
    given = [each.answers if each else None for each in answers] or [each.answers for each in questions]
    return tuple(AskedPair(each.clean, each.corrupted, own) for each, own in zip(questions, given, strict=True))


@contextmanager
def in_pair(number: int, before: Sequence[Answer | None]) -> Iterator[None]:
    """Name the pair in what ends a job while it is asked; Ctrl-C leaves the means over the pairs `before` it."""
    try:
        yield
    except Unsupported as error:
        raise Unsupported(f"{named([number])}: {error}") from error
    except SweepInterrupted as stop:
        done = over_pairs(before if any(before) else [stop.answer])
        raise SweepInterrupted(replace(done, stopped=f"in {named([number])}, {stop.answer.stopped}")) from stop
    except KeyboardInterrupt as stop:
        if not any(before):
            raise
        done = replace(over_pairs(before), stopped=f"in {named([number])}, beside its sweep")
        raise SweepInterrupted(done) from stop


def case_of(case: Case, index: int) -> Case:
    """Return a case of several pairs as it is asked of one of them."""
    if not case.is_averaged:
        return case
    checks = tuple(check for check in case.checks if check != "metric-comparison")
    return case.having(prompts=case.pairs[index], expect=Expect(), checks=checks)


def case_of_means(case: Case) -> Case:
    """Return the part of a case that its means are held to. Error bars were measured pair by pair."""
    return case.having(checks=tuple(check for check in case.checks if check in OF_THE_MEAN), precision=False)
