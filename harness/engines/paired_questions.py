"""From several pairs of prompts to a question for each, before any forward pass.

Two pairs may differ in length. What they must have in common are the cells of the sweep: a grid of positions needs
pairs of one length, and a list of positions is one that every pair has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.casefile import Prompts
from harness.engines.pairs import in_pairs, named, said_of_pairs
from harness.intercept import resolve_positions
from harness.models.loaded import LoadedModel
from harness.models.tokens import IN_A_CASE, read_prompts
from harness.patching.sweep import misalignment
from harness.vocabulary import Finding, Question, Sweep, Tokens
from harness.vocabulary.errors import PromptError, UsageError
from harness.vocabulary.words import number_of


def questions_over(
    model: LoadedModel,
    pairs: Sequence[Prompts],
    sweep: Sweep,
    metrics: Sequence[str],
    mean_of: tuple[Tokens, ...] = (),
) -> tuple[Question, ...]:
    """Return what is asked of a model, a question for each pair.

    Raises PromptError for prompts that the model cannot read and for pairs that do not have the cells of the sweep in
    common: every pair of which that is so is named.
    """
    read = [_read(model, given, sweep, metrics) for given in pairs]
    _refuse([each if isinstance(each, str) else None for each in read])
    questions = tuple(replace(each, mean_of=mean_of) for each in read if isinstance(each, Question))
    _refuse([_unpositioned(each) for each in questions])
    aligned = [None if misalignment(each.clean, each.corrupted) else len(each.clean.ids) for each in questions]
    if sweep.positions == "each" and (different := of_other_lengths(aligned)):
        raise PromptError(different)
    return questions


def _read(model: LoadedModel, given: Prompts, sweep: Sweep, metrics: Sequence[str]) -> Question | str:
    names = {key: name.removeprefix("prompts.") for key, name in IN_A_CASE.items()}
    try:
        clean, corrupted, answers = read_prompts(model, given, names)
    except PromptError as error:
        return str(error)
    return Question(clean, corrupted, sweep, tuple(metrics), answers)


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


def misaligned(questions: Sequence[Question]) -> list[Finding]:
    """Return ALN001 for every pair whose prompts differ in length: no position of such a pair corresponds."""
    found = [misalignment(each.clean, each.corrupted) for each in questions]
    return said_of_pairs([[each] if each else [] for each in found])
