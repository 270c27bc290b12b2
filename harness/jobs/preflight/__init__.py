"""What can be said of jobs before any model is loaded: layers, components, tokens and snapshots.

`inspect` answers like a run would, as far as it can without weights, and says what it could not look at: a check that
was silently left out would read like one that passed. It imports no architecture and makes no array.

    shapes     a row of the model table -> how many layers, which architecture, where its files are
    modules    an architecture's source code -> the names its modules can have
    prompts    prompts and answers as a tokenizer that is at hand reads them
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.casefile import Case
from harness.casefile.syntax.document import KeyPath
from harness.jobs.planning import Job
from harness.jobs.preflight.modules import component_fault
from harness.jobs.preflight.prompts import prompt_faults
from harness.jobs.preflight.shapes import ModelShape, shape_of
from harness.jobs.preflight.wording import Refused, Unknown
from harness.models.spec import ModelRow
from harness.vocabulary.errors import Problem

_SHOWN = 3


@dataclass(frozen=True)
class NotChecked:
    """Something that was not looked at for some jobs, and why."""

    what: str
    why: str
    jobs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.what} of {_count(self.jobs)} ({self.why})"


@dataclass(frozen=True)
class CaseReport:
    """Every problem, what was not checked, and the jobs that have no snapshot."""

    problems: tuple[Problem, ...]
    not_checked: tuple[NotChecked, ...]
    without_snapshot: tuple[str, ...]


def inspect(jobs: Sequence[Job]) -> CaseReport:
    """Return what can be said of jobs without loading a model."""
    faults: dict[Problem, list[str]] = {}
    unknown: dict[tuple[str, str], list[str]] = {}
    for case, row, ids in _by_model(jobs):
        for found in _found(case, row):
            if isinstance(found, Unknown):
                unknown.setdefault((found.what, found.why), []).extend(ids)
            else:
                faults.setdefault(case.problem(found.text, found.path), []).append(row.id)
    for job in jobs:
        for name in job.code:
            unknown.setdefault((f"whether {name} exists, and what it answers,", "seen when it runs"), []).append(job.id)
    return CaseReport(
        tuple(replace(fault, message=f"{fault.message}; on {_models(models)}") for fault, models in faults.items()),
        tuple(NotChecked(what, why, tuple(ids)) for (what, why), ids in unknown.items()),
        tuple(job.id for job in jobs if _lacks_snapshot(job)),
    )


def refusal(job: Job) -> str:
    """Return the first reason why a run would refuse a job's question; an empty one where none is known."""
    return next((str(found.text) for found in _found(job.case, job.row) if isinstance(found, Refused)), "")


def _by_model(jobs: Iterable[Job]) -> Iterator[tuple[Case, ModelRow, list[str]]]:
    """Yield each case with each of its models, and the ids of the jobs: engines make no difference here."""
    pairs: dict[tuple[int, str], tuple[Case, ModelRow, list[str]]] = {}
    for job in jobs:
        pairs.setdefault((id(job.case), job.row.id), (job.case, job.row, []))[2].append(job.id)
    yield from pairs.values()


def _found(case: Case, row: ModelRow) -> Iterator[Refused | Unknown]:
    shape = shape_of(row)
    yield from _layers(case, shape)
    yield from _components(case, shape)
    yield from prompt_faults(case, row, shape)


def _layers(case: Case, shape: ModelShape) -> Iterator[Refused | Unknown]:
    named = [*_named_layers(case)]
    if not named:
        return
    if shape.layers is None:
        yield Unknown("layer numbers", shape.missing)
        return
    seen: dict[int, int] = {}
    for path, layer in named:
        if not -shape.layers <= layer < shape.layers:
            yield Refused(path, f"layer {layer} does not exist; there are layers 0 to {shape.layers - 1}")
        elif path[0] == "sweep" and seen.setdefault(layer % shape.layers, layer) != layer:
            yield Refused(path, f"layer {layer} is layer {seen[layer % shape.layers]} once more")
    swept = len(case.asked_sweep.layers or range(shape.layers))
    for index, entry in enumerate(case.expect.top_layers):
        if entry.among is not None and entry.among >= swept:
            message = f"{swept} layers are swept, so among {entry.among} any would do"
            yield Refused(("expect", "top_layers", index, "among"), message)


def _named_layers(case: Case) -> Iterator[tuple[KeyPath, int]]:
    for index, layer in enumerate(case.asked_sweep.layers or ()):
        yield ("sweep", "layers", index), layer
    for key in ("recoveries", "top_layers", "minimum_recovery", "rank_order"):
        for index, entry in enumerate(getattr(case.expect, key)):
            yield from _layers_of(("expect", key, index), entry)


def _layers_of(path: KeyPath, entry: Any) -> Iterator[tuple[KeyPath, int]]:
    if getattr(entry, "layer", None) is not None:
        yield (*path, "layer"), entry.layer
    for index, layer in enumerate(getattr(entry, "layers", ())):
        yield (*path, "layers", index), layer


def _components(case: Case, shape: ModelShape) -> Iterator[Refused | Unknown]:
    for index, component in enumerate(case.sweep.components):
        found = component_fault(component, shape)
        if isinstance(found, str):
            yield Refused(("sweep", "components", index), found)
        elif found is not None:
            yield found


def _lacks_snapshot(job: Job) -> bool:
    """Return whether a run would compare this job with a snapshot, and there is none for any backend."""
    from harness.snapshots import location_of

    if not job.has_snapshot or job.case.skip:
        return False
    location = location_of(job.case.path, job.name, "*")
    return not any(location.parent.glob(location.name))


def _models(models: list[str]) -> str:
    shown = ", ".join(models[:_SHOWN])
    return shown if len(models) <= _SHOWN else f"{shown} and {len(models) - _SHOWN} more"


def _count(jobs: Sequence[str]) -> str:
    return f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}"
