"""GitHub workflow commands: each finding appears in a pull request at the line of the case file that it is about.

Source: GitHub, "Workflow commands for GitHub Actions", setting an error or warning message.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.results.reports.summary import BAD, again, unexpected
from harness.vocabulary import Finding, JobResult, RunResult, Status
from harness.vocabulary.paths import near
from harness.vocabulary.verdict import causes
from harness.vocabulary.visible import visible


def render(run: RunResult) -> str:
    """Return one line a finding: one for each code of a job, and one for a job that failed without any."""
    return "".join(f"{line}\n" for job in run.jobs for line in _of_job(job, run))


def _of_job(job: JobResult, run: RunResult) -> Iterator[str]:
    found = unexpected(job)
    for code in dict.fromkeys(each.code for each in found):
        alike = [each for each in found if each.code == code]
        yield _of_finding(job, run, alike[0], len(alike) - 1)
    if job.status in BAD and not found:
        yield _command("error", job, job.case_line, f"{job.id} {job.status}", job.reason or job.status.value)
    elif job.status is Status.SKIPPED:
        yield _command("notice", job, job.case_line, f"{job.id} skipped", job.reason or "skipped")


def _of_finding(job: JobResult, run: RunResult, finding: Finding, others: int) -> str:
    where = f" at {finding.site}" if finding.site else ""
    more = f"\n{others} more of this code" if others else ""
    message = f"{job.id}{where}: {finding.message}{more}\n{finding.hint}\n{again(job, run)}"
    kind = "error" if finding in causes(job) else "warning"
    return _command(kind, job, job.line_of(finding), f"{finding.code} {finding.kind.title}", message)


def _command(kind: str, job: JobResult, line: int, title: str, message: str) -> str:
    file = _value(near(job.case_file))
    return f"::{kind} file={file},line={line},title={_value(title)}::{_text(message)}"


def _text(value: str) -> str:
    return visible(value, keep="\r\n").replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _value(value: str) -> str:
    return _text(value).replace(":", "%3A").replace(",", "%2C")
