"""Where a case states what a job did not meet: the line that an editor opens and a pull request shows."""

from __future__ import annotations

from dataclasses import replace

from harness.casefile import Case
from harness.vocabulary import Finding, JobResult


def with_lines(result: JobResult, case: Case) -> JobResult:
    """Return the result whose findings about expected findings and failures carry the line that states them.

    Those about stated numbers have theirs from their checks.
    """
    return replace(result, findings=tuple(_with_line(each, case, result.engine) for each in result.findings))


def _with_line(finding: Finding, case: Case, engine: str) -> Finding:
    match finding.code:
        case "XFL001":
            line = case.line_of("xfail")
        case "EXP001":
            line = _line_of_code(str(finding.evidence["code"]), case, engine)
        case _:
            return finding
    return replace(finding, evidence={**finding.evidence, "line": line})


def _line_of_code(code: str, case: Case, engine: str) -> int:
    own = ("expect", "engines", engine) if engine in case.expect.engines else ("expect",)
    codes = case.expectation(engine)[0]
    at = (codes.index(code),) if code in codes else ()
    return case.line_of(*own, "findings", *at)
