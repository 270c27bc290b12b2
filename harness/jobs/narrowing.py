"""Running a part of a case: some of its metrics, some of its components.

A part is not a case of its own. What the case states of the rest is left unasked, findings that must appear may appear
(they may belong to the rest), and nothing of it is stored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from harness.casefile import Case, Expect
from harness.jobs.planning import Job


def narrowed_jobs(jobs: Iterable[Job], metrics: Collection[str], components: Collection[str]) -> list[Job]:
    """Return the jobs with what is left of them, without those of which nothing is left."""
    parts = ((job, narrowed(job.case, job.engine, metrics, components)) for job in jobs)
    return [replace(job, case=part) for job, part in parts if part is not None]


def narrowed(case: Case, engine: str, metrics: Collection[str], components: Collection[str]) -> Case | None:
    """Return the part of a case with these metrics and components (none given: all of them), for one engine's job."""
    if not metrics and not components:
        return case
    kept_metrics = tuple(each for each in case.metrics if not metrics or each in metrics)
    kept_components = tuple(each for each in case.sweep.components if not components or each in components)
    if not kept_metrics or not kept_components:
        return None
    must, may = case.expectation(engine)
    return case.having(
        metrics=kept_metrics,
        sweep=case.sweep.model_copy(update={"components": kept_components}),
        # A job that must fail a check has no snapshot to be compared with.
        checks=tuple(check for check in case.checks if not (case.must_fail(engine) and check == "snapshot")),
        expect=_part_of(case.expect, {*kept_metrics}, {*kept_components}).model_copy(
            update={"findings": (), "may_find": (*must, *may), "engines": {}}
        ),
    )


def _part_of(expect: Expect, metrics: Collection[str], components: Collection[str]) -> Expect:
    """Return the statements that are about what is kept; one without a metric or component is about all of them."""

    def kept(stated: Any) -> bool:
        metric, component = getattr(stated, "metric", None), getattr(stated, "component", None)
        return metric in (None, *metrics) and component in (None, *components)

    lists = {name: value for name, value in expect if isinstance(value, tuple)}
    return expect.model_copy(update={name: tuple(filter(kept, value)) for name, value in lists.items()})
