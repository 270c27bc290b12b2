"""One verdict for a job and for a run, whoever asks: the text and the exit code are drawn from the same place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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


def judge(
    findings: Iterable[Finding], must_find: Sequence[str], may_find: Sequence[str], strict: bool = False
) -> tuple[Status, tuple[Finding, ...]]:
    """Return the status of a job and its findings, the expected ones marked.

    A code in `must_find` that did not appear becomes a finding itself. What is expected never fails a job.
    """
    marked = [replace(each, expected=each.code in must_find or each.code in may_find) for each in findings]
    seen = {each.code for each in marked}
    marked += [
        Finding("EXP001", f"{code} was expected and not found", evidence={"code": code})
        for code in must_find
        if code not in seen
    ]
    failed = any(fails(each, strict) for each in marked)
    return (Status.FAILED if failed else Status.PASSED), tuple(marked)


def expect_failure(
    status: Status, findings: Sequence[Finding], reason: str, explains: Callable[[Finding], bool], strict: bool = False
) -> tuple[Status, tuple[Finding, ...]]:
    """Return what the verdict becomes where the case says that the job fails: failing passes, and passing fails.

    The findings that failed the job are marked as expected if they are of the failure that is known, which `explains`
    says of each. Others fail the job as ever.
    """
    if status is Status.FAILED:
        known = [replace(each, expected=each.expected or (fails(each, strict) and explains(each))) for each in findings]
        return (Status.FAILED if any(fails(each, strict) for each in known) else Status.PASSED), tuple(known)
    if status is Status.PASSED:
        return Status.FAILED, (*findings, Finding("XFL001", f"the case says why it should not: {reason}"))
    return status, tuple(findings)


def known_failure(
    status: Status, findings: Sequence[Finding], known: Callable[[Finding], str], strict: bool = False
) -> tuple[Status, tuple[Finding, ...]]:
    """Return what the verdict of a job becomes where failures are known: `known` gives the reason of one, or nothing.

    A job that failed otherwise, by a finding that is not known or by none, fails as ever.
    """
    marked = [
        replace(each, expected=True, known=reason) if fails(each, strict) and (reason := known(each)) else each
        for each in findings
    ]
    mended = status is Status.FAILED and any(each.known for each in marked)
    failed = not mended or any(fails(each, strict) for each in marked)
    return (status if failed else Status.PASSED), tuple(marked)


def fails(finding: Finding, strict: bool = False) -> bool:
    """Return whether a finding fails its job."""
    return not finding.expected and finding.kind.fails(strict)


def causes(job: JobResult, strict: bool = False) -> list[Finding]:
    """Return the findings that failed a job.

    A result does not say whether its run was strict: where no error failed the job, a warning did.
    """
    return [each for each in job.findings if fails(each, strict)] or [
        each for each in job.findings if job.status is Status.FAILED and fails(each, strict=True)
    ]


def of_run(jobs: Sequence[JobResult], *besides: Status) -> tuple[Status, int]:
    """Return the verdict of a run and its exit code: the gravest status of its jobs, and of what happened besides."""
    statuses = {*(job.status for job in jobs), *besides}
    return next((each for each in _BY_GRAVITY if each[0] in statuses), (Status.SKIPPED, EXIT_NOTHING_RAN))


def graver(run: RunResult, status: Status, note: str) -> RunResult:
    """Return the run with a verdict at least as grave as a status, and a note that says why."""
    verdict, code = of_run(run.jobs, run.verdict, status)
    return replace(run, verdict=verdict, exit_code=code, notes=(*run.notes, note))


def besides(run: RunResult) -> str:
    """Return what made the verdict of a run that its jobs alone do not make, or nothing; the notes have the details."""
    if of_run(run.jobs)[0] is run.verdict:
        return ""
    if run.verdict is Status.FAILED and any(MENDED in note for note in run.notes):
        return "a known failure is mended"
    return _BESIDES.get(run.verdict, "")


MENDED = "passes now; delete this entry"
"""What a note says of an entry of known failures that fails the run."""


_BESIDES = {
    Status.CRASHED: "the run itself broke",
    Status.INTERRUPTED: "not every planned job ended",
    Status.REFUSED: "a file was refused or not written",
    Status.FAILED: "too few jobs ran",
}
_BY_GRAVITY = (
    (Status.CRASHED, EXIT_INTERNAL),
    (Status.INTERRUPTED, EXIT_INTERRUPTED),
    (Status.REFUSED, EXIT_USAGE),
    (Status.FAILED, EXIT_FINDINGS),
    (Status.PASSED, EXIT_PASSED),
)
