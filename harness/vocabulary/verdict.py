"""One verdict for a job and for a run, whoever asks: the text and the exit code are drawn from the same place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from harness.vocabulary import Finding, JobResult, RunResult, Status
from harness.vocabulary.errors import (
    EXIT_FINDINGS,
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_NOTHING_RAN,
    EXIT_PASSED,
    EXIT_USAGE,
)
from harness.vocabulary.findings import Severity


def judge(
    findings: Iterable[Finding], must_find: Sequence[str], may_find: Sequence[str], strict: bool = False
) -> tuple[Status, tuple[Finding, ...]]:
    """Return the status of a job and its findings, the expected ones marked.

    A code in `must_find` that did not appear becomes a finding itself. What is expected never fails a job.
    """
    marked = [replace(each, expected=each.code in must_find or each.code in may_find) for each in findings]
    seen = {each.code for each in marked}
    marked += [Finding("EXP001", f"{code} was expected and not found") for code in must_find if code not in seen]
    failed = any(fails(each, strict) for each in marked)
    return (Status.FAILED if failed else Status.PASSED), tuple(marked)


def expect_failure(
    status: Status, findings: Sequence[Finding], reason: str, strict: bool = False
) -> tuple[Status, tuple[Finding, ...]]:
    """Return what the verdict becomes where the case says that the job fails: failing passes, and passing fails.

    The findings that failed the job are marked as expected.
    """
    if status is Status.FAILED:
        return Status.PASSED, tuple(replace(each, expected=each.expected or fails(each, strict)) for each in findings)
    if status is Status.PASSED:
        return Status.FAILED, (*findings, Finding("XFL001", f"the case says why it should not: {reason}"))
    return status, tuple(findings)


def fails(finding: Finding, strict: bool = False) -> bool:
    """Return whether a finding fails its job."""
    fatal = (Severity.ERROR, Severity.WARNING) if strict else (Severity.ERROR,)
    return not finding.expected and finding.severity in fatal


def of_run(jobs: Sequence[JobResult], *besides: Status) -> tuple[Status, int]:
    """Return the verdict of a run and its exit code: the gravest status of its jobs, and of what happened besides."""
    statuses = {*(job.status for job in jobs), *besides}
    return next((each for each in _BY_GRAVITY if each[0] in statuses), (Status.SKIPPED, EXIT_NOTHING_RAN))


def unwritten(run: RunResult, why: str) -> RunResult:
    """Return a run of which a file could not be written: said beside its verdict, and never exit code 0."""
    return replace(run, exit_code=run.exit_code or EXIT_USAGE, notes=(*run.notes, why))


_BY_GRAVITY = (
    (Status.CRASHED, EXIT_INTERNAL),
    (Status.INTERRUPTED, EXIT_INTERRUPTED),
    (Status.REFUSED, EXIT_USAGE),
    (Status.FAILED, EXIT_FINDINGS),
    (Status.PASSED, EXIT_PASSED),
)
