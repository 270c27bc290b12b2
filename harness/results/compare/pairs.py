"""Which job of one run answers which job of the other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.vocabulary import JobResult
from harness.vocabulary.errors import UsageError, suggest

Match = tuple[str, str]
"""A name on each side; one `*` on both stands for what they have in common: `("*-f32", "*-f16")`."""


@dataclass(frozen=True)
class Pair:
    """One question on two sides; a side that never asked it is None."""

    name: str
    base: JobResult | None
    new: JobResult | None


def pair(
    base: Sequence[JobResult], new: Sequence[JobResult], engines: Match | None = None, models: Match | None = None
) -> list[Pair]:
    """Return the pairs in the order of `base`, then what only `new` has.

    Jobs belong together that have case, engine and model in common. With `engines` or `models` only jobs of the two
    names are compared, one name on each side. Raises UsageError for a name that its side does not have.
    """
    left = _named(base, "the first result", _first(engines), _first(models))
    right = _named(new, "the second result", _second(engines), _second(models))
    return [Pair(name, left.get(name), right.get(name)) for name in dict.fromkeys([*left, *right])]


def _named(jobs: Sequence[JobResult], side: str, engine: str | None, model: str | None) -> dict[str, JobResult]:
    _refuse_unknown("engine", engine, {job.engine for job in jobs}, side)
    _refuse_unknown("model", model, {job.model for job in jobs}, side)
    named: dict[str, JobResult] = {}
    for job in jobs:
        engine_key, model_key = _key(job.engine, engine), _key(job.model, model)
        if engine_key is None or model_key is None:
            continue
        if named.setdefault(f"{job.case}[{engine_key}@{model_key}]", job) is not job:
            raise UsageError(f"{side} has {job.id} twice")
    return named


def _key(name: str, wanted: str | None) -> str | None:
    """Return under which name a job is paired: its own, or the part that `*` stands for; None: not compared."""
    if wanted is None:
        return name
    found = _pattern(wanted).fullmatch(name)
    return None if found is None else "".join(found.groups()) or "*"


def _refuse_unknown(kind: str, wanted: str | None, names: set[str], side: str) -> None:
    if wanted is not None and not any(_pattern(wanted).fullmatch(name) for name in names):
        raise UsageError(f"{side} has no {kind} {wanted!r}; {suggest(wanted, names)}")


def _pattern(wanted: str) -> re.Pattern[str]:
    return re.compile("(.*)".join(map(re.escape, wanted.split("*"))))


def _first(match: Match | None) -> str | None:
    return match[0] if match else None


def _second(match: Match | None) -> str | None:
    return match[1] if match else None
