"""A job of several pairs of prompts: what is asked of the model for each, and what is said of all.

Every pair is one question, answered and checked like that of a case of one pair. What the case states of its numbers
(`expect`), and how alike its metrics rank the cells, is asked of the means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from harness.casefile import Case, Expect
from harness.engines.pairs import in_pairs, named, over_pairs
from harness.intercept import resolve_positions
from harness.models.loaded import LoadedModel
from harness.models.tokens import IN_A_CASE, read_mean_of, read_prompts
from harness.patching.sweep import misalignment
from harness.vocabulary import Answer, AskedPair, Finding, Question, Tokens
from harness.vocabulary.errors import PromptError, Unsupported, UsageError
from harness.vocabulary.raised import SweepInterrupted
from harness.vocabulary.words import number_of

OF_THE_MEAN = ("known-answer", "metric-comparison")
"""Checks that look at what a case states or shows, which are means; `expectation` is always one of them."""


def questions_of(case: Case, model: LoadedModel, metrics: Sequence[str]) -> tuple[Question, ...]:
    """Return what a case asks of one model, a question for each pair.

    Raises PromptError for prompts that the model cannot read and for pairs that do not have the cells of the sweep in
    common: every pair of which that is so is named.
    """
    mean_of = read_mean_of(model, case.sweep.mean_of or (), special=case.pairs[0].special_tokens)
    read = [_read(case, index, model, metrics, mean_of) for index in range(len(case.pairs))]
    if not case.is_averaged:
        return tuple(question for question in read if isinstance(question, Question))
    _refuse([None if isinstance(each, Question) else each for each in read])
    questions = tuple(each for each in read if isinstance(each, Question))
    _refuse([_unpositioned(each) for each in questions])
    aligned = [None if misalignment(each.clean, each.corrupted) else len(each.clean.ids) for each in questions]
    if case.sweep.positions == "each" and (different := of_other_lengths(aligned)):
        raise PromptError(different)
    return questions


def _read(
    case: Case, index: int, model: LoadedModel, metrics: Sequence[str], mean_of: tuple[Tokens, ...]
) -> Question | str:
    names = {key: name.replace("prompts.", f"prompts[{index}].") for key, name in IN_A_CASE.items()}
    try:
        asked = read_prompts(model, case.pairs[index], names if case.is_averaged else IN_A_CASE)
    except PromptError as error:
        if case.is_averaged:
            return str(error)
        raise
    clean, corrupted, answers = asked
    return Question(clean, corrupted, case.asked_sweep, tuple(metrics), answers, mean_of)


def _refuse(reasons: Sequence[str | None]) -> None:
    if said := in_pairs(reasons):
        raise PromptError("; ".join(said))


def _unpositioned(question: Question) -> str | None:
    """Return which position of the sweep a pair does not have. One of unequal lengths is told of that alone."""
    if question.sweep.positions == "each" or misalignment(question.clean, question.corrupted):
        return None
    try:
        resolve_positions(question.sweep.positions, len(question.clean.ids))
    except UsageError as error:
        return str(error)
    return None


def of_other_lengths(tokens: Sequence[int | None]) -> str:
    """Return why pairs of so many tokens have no grid of positions in common, if so; None is a pair of no length."""
    lengths: dict[int, list[int]] = {}
    for number, length in enumerate(tokens, 1):
        if length is not None:
            lengths.setdefault(length, []).append(number)
    if len(lengths) < 2:
        return ""
    told = "; ".join(f"{number_of(length, 'token')} in {named(where)}" for length, where in sorted(lengths.items()))
    return f"positions: each makes a cell of every token, so all pairs must be of one length: {told}"


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


def misaligned(questions: Sequence[Question]) -> list[Finding]:
    """Return ALN001 for every pair whose prompts differ in length: no position of such a pair corresponds."""
    found = [misalignment(each.clean, each.corrupted) for each in questions]
    return said_of_pairs([[each] if each else [] for each in found])


def case_of(case: Case, index: int) -> Case:
    """Return a case of several pairs as it is asked of one of them."""
    if not case.is_averaged:
        return case
    checks = tuple(check for check in case.checks if check != "metric-comparison")
    return case.having(prompts=case.pairs[index], expect=Expect(), checks=checks)


def case_of_means(case: Case) -> Case:
    """Return the part of a case that its means are held to. Error bars were measured pair by pair."""
    return case.having(checks=tuple(check for check in case.checks if check in OF_THE_MEAN), precision=False)


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
