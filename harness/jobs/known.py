"""The known failures of a run: which findings of a job they explain, and which of them are found no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.casefile.known import (
    KNOWABLE,
    PLACEHOLDER,
    Asking,
    Ended,
    Ending,
    Failed,
    KnownEntry,
    KnownFailures,
    KnownVerdict,
)
from harness.vocabulary import Finding, JobResult, Status
from harness.vocabulary.verdict import fails, known_failure

if TYPE_CHECKING:
    from harness.jobs.planning import Job


def read_known(path: str | Path | None) -> KnownFailures:
    """Return the known failures of a file, none without one. Raises UsageError, CaseFileError with every fault."""
    if path is None:
        return KnownFailures()
    from harness.laws.conformance import known

    return known.read_known(Path(path))


def with_known(result: JobResult, known: KnownFailures, strict: bool = False) -> JobResult:
    """Return a job's result with its known failures marked; one that failed by nothing else passes."""
    place = _place(result.engine, result.case, result.model)

    def reason(finding: Finding) -> str:
        return known.reason(place, _failed(finding))

    status, findings = known_failure(result.status, result.findings, reason, strict)
    return replace(result, status=status, findings=findings)


def verdict_of(known: KnownFailures, results: Iterable[JobResult], jobs: Iterable[Job], narrowed: bool) -> KnownVerdict:
    """Return what a run says of the entries; `jobs` are all of its case files, those that it left out among them."""
    return known.verdict(list(_ended(list(results), jobs, narrowed)), of_laws=False)


def written_known(
    path: Path, known: KnownFailures, results: list[JobResult], jobs: Iterable[Job], narrowed: bool, strict: bool
) -> KnownFailures:
    """Write what fails in a run as known failures, with the entries that still serve, and return the file as read."""
    from harness.laws.conformance.known import rewritten

    new = (
        KnownEntry(
            finding=each.code, case=job.case, model=job.model, engine=job.engine, kind=_failed(each).kind or None,
            reason=PLACEHOLDER,
        )
        for job in results
        if job.status is Status.FAILED
        for each in job.findings
        if fails(each, strict) and each.code in KNOWABLE
    )  # fmt: skip
    return rewritten(path, [*verdict_of(known, results, jobs, narrowed).kept, *new])


def _ended(results: list[JobResult], jobs: Iterable[Job], narrowed: bool) -> Iterator[Ended]:
    for each in results:
        whole = each.status in (Status.PASSED, Status.FAILED) and not (each.partial or narrowed)
        failures = tuple(map(_failed, each.findings))
        yield Ended(_place(each.engine, each.case, each.model), Ending.ENDED if whole else Ending.ABSENT, failures)
    seen = {each.id for each in results}
    for job in jobs:
        if job.id not in seen:
            yield Ended(_place(job.engine, job.case.id, job.row.id), Ending.ABSENT)


def _place(engine: str, case: str, model: str) -> Asking:
    return Asking(engine, case=case, model=model)


def _failed(finding: Finding) -> Failed:
    return Failed(finding.code, str(finding.evidence.get("mistake") or ""))
