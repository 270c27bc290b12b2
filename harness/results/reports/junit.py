"""A result as JUnit XML, which CI services show: a test case a job."""

from __future__ import annotations

from xml.etree import ElementTree

from harness.results.reports.summary import BAD, failures
from harness.vocabulary import RunResult, Status
from harness.vocabulary.visible import visible

_TAGS = {Status.FAILED: "failure"}
"""How a job that is not all right is called; the others are errors."""


def render(run: RunResult) -> str:
    """Return the report. A job that failed has its reason and the command that runs it again."""
    suite = ElementTree.Element("testsuite", name="harness run", timestamp=run.started, time=f"{run.duration_s:.3f}")
    failed = {each.job.id: each for each in failures(run)}
    for job in run.jobs:
        seconds = sum(value for name, value in job.timings.items() if name.endswith("_s"))
        case = ElementTree.SubElement(suite, "testcase", classname=job.case, name=job.id, time=f"{seconds:.3f}")
        if job.status in BAD:
            failure = failed[job.id]
            code = f"{failure.finding.code} " if failure.finding else ""
            tag = ElementTree.SubElement(case, _TAGS.get(job.status, "error"), message=f"{code}{failure.reason}")
            traceback = str(failure.finding.evidence.get("traceback", "")) if failure.finding else ""
            tag.text = "\n".join(filter(None, [failure.command, traceback]))
        elif job.status is Status.SKIPPED:
            ElementTree.SubElement(case, "skipped", message=job.reason or "skipped")
    return suite_text(suite)


def suite_text(suite: ElementTree.Element) -> str:
    """Return a suite as text, with the counts of what is in it; nothing in a text acts or is lost."""
    for word, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(word, str(sum(1 for _ in suite.iter(tag))))
    return visible(ElementTree.tostring(suite, encoding="unicode"), keep="\n") + "\n"
