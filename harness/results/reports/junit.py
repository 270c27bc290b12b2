"""A result as JUnit XML, which CI services show: a test case a job."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree

from harness.results.reports.summary import Failure, failures
from harness.vocabulary import JobResult, RunResult, Status
from harness.vocabulary.paths import near
from harness.vocabulary.visible import visible

_TAGS = {Status.FAILED: "failure"}
"""How a job that is not all right is called; the others are errors."""

_MOVES = 10
"""Numbers that moved from a snapshot that a failure names."""


def render(run: RunResult) -> str:
    """Return the report. A job that failed has its reason and the command that runs it again."""
    suite = ElementTree.Element("testsuite", name="harness run", timestamp=run.started, time=f"{run.duration_s:.3f}")
    failed = {each.job.id: each for each in failures(run)}
    for job in run.jobs:
        seconds = sum(value for name, value in job.timings.items() if name.endswith("_s"))
        failure = failed.get(job.id)
        line = job.line_of(failure.finding) if failure and failure.finding else job.case_line
        case = ElementTree.SubElement(
            suite, "testcase", classname=job.case, name=job.id, time=f"{seconds:.3f}",
            file=near(job.case_file), line=str(line),
        )  # fmt: skip
        if failure:
            code = f"{failure.finding.code} " if failure.finding else ""
            tag = ElementTree.SubElement(case, _TAGS.get(job.status, "error"), message=f"{code}{failure.reason}")
            tag.text = "\n".join(filter(None, [failure.command, *_seen(failure)]))
        elif said := _not_judged(job):
            ElementTree.SubElement(case, "skipped", message=said)
    return suite_text(suite)


def _not_judged(job: JobResult) -> str:
    """Return why a job counts neither as passed nor as failed: it was skipped, or its failures are known."""
    if job.status is Status.SKIPPED:
        return job.reason or "skipped"
    return "; ".join(dict.fromkeys(f"known {each.code}: {each.known}" for each in job.findings if each.known))


def _seen(failure: Failure) -> Iterator[str]:
    """Yield what a person looks at next: the traceback of what was raised, its output, the numbers that moved."""
    if failure.finding:
        yield str(failure.finding.evidence.get("traceback", ""))
        yield from map(str, failure.finding.evidence.get("differences", ())[:_MOVES])
    yield failure.job.printed


def suite_text(suite: ElementTree.Element) -> str:
    """Return a suite as text, with the counts of what is in it; nothing in a text acts or is lost."""
    for word, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(word, str(sum(1 for _ in suite.iter(tag))))
    return visible(ElementTree.tostring(suite, encoding="unicode"), keep="\n") + "\n"
