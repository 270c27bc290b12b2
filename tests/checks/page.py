"""docs/checks.md: check x planted fault x caught x clean models flagged.

    python tests/checks/page.py            run the table's tests and print the page
    python tests/checks/page.py --write    and keep it as docs/checks.md

What stands in the page was seen in that run. `test_checks_page.py` holds it to the tables of planted faults and clean
models, each row of which is a test of its own in every run of the suite.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "checks.md"

HEAD = """\
# What the checks catch

Every check has planted faults that it must catch and clean models that it must leave alone. This page is written by
`python tests/checks/page.py --write`, from a run of `tests/checks/test_planted_faults.py`. What a code means is in
[findings](findings), how bad it is in `harness/vocabulary/findings`: an error fails a job, a warning about the engine
or the case only under `--strict`, any other never.
"""

Outcome = Callable[[str], str]
"""The outcome of a test, asked for by the part of its name in brackets: `passed`, or another word."""


def main(arguments: list[str]) -> int:
    """Run the tests, print or write the page, and return pytest's exit code."""
    import pytest

    seen = _Seen()
    code = pytest.main(["-q", "-p", "no:cacheprovider", str(FOLDER / "test_planted_faults.py")], plugins=[seen])
    page = text(lambda name: seen.outcomes.get(name, "not run"))
    if "--write" in arguments:
        PAGE.write_text(page, encoding="utf-8")
    else:
        print(page)
    return int(code)


class _Seen:
    """A pytest plugin that remembers how each test ended."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" and "[" in report.nodeid:
            self.outcomes[report.nodeid.partition("[")[2].removesuffix("]")] = report.outcome


def text(outcome: Outcome) -> str:
    """Return the page for the tables as they are."""
    return "\n".join([HEAD, *_faults(outcome), "", *_clean(outcome)]) + "\n"


def _faults(outcome: Outcome) -> Iterator[str]:
    from planted_faults import FAULTS

    from harness.vocabulary.findings import FINDINGS

    flagged = _flagged(outcome)
    yield "## Planted faults"
    yield ""
    yield "The last column counts the clean jobs below on which the code appeared and was not true; snapshots are"
    yield "compared after a job, and not in these."
    yield ""
    yield "| check | code | severity | planted fault | found besides | caught | clean jobs flagged |"
    yield "|---|---|---|---|---|---|---|"
    for fault in FAULTS:
        kind = FINDINGS[fault.code]
        caught = outcome(fault_id(fault)) == "passed"
        besides = " ".join(sorted(fault.besides))
        yield (
            f"| {kind.check} | {kind.code} | {kind.severity} | {fault.name} | {besides} | "
            f"{'yes' if caught else 'NO'} | {'not asked' if kind.check == 'snapshot' else flagged} |"
        )


def _flagged(outcome: Outcome) -> str:
    failed = sum(outcome(job) != "passed" for job in _jobs())
    return f"see below: {failed} jobs failed" if failed else f"0 of {len(_jobs())}"


def _clean(outcome: Outcome) -> Iterator[str]:
    from clean_models import CLEAN_MODELS, TRUE_WARNINGS

    from harness.vocabulary import METRICS, Direction

    yield "## Clean models"
    yield ""
    yield f"Each is a job in both directions, with {len(METRICS)} metrics and error bars. A warning that is true"
    yield "is no false alarm: whether it is true is decided in `tests/checks/clean_models.py`, without the checks."
    yield ""
    yield "| model | direction | errors | warnings, all true |"
    yield "|---|---|---|---|"
    for name in CLEAN_MODELS:
        for direction in Direction:
            warned = " ".join(sorted(TRUE_WARNINGS.get((name, direction.value), ()))) or "none"
            passed = outcome(job_id(name, direction.value)) == "passed"
            yield f"| {name} | {direction} | {0 if passed else 'FAILED'} | {warned if passed else '?'} |"


def _jobs() -> list[str]:
    from clean_models import CLEAN_MODELS

    from harness.vocabulary import Direction

    return [job_id(name, direction.value) for name in CLEAN_MODELS for direction in Direction]


def job_id(name: str, direction: str) -> str:
    """Return what pytest calls the job of a clean model."""
    return f"{name}-{direction}"


def fault_id(fault: Any) -> str:
    """Return what pytest calls a planted fault."""
    from harness.vocabulary.findings import FINDINGS

    return f"{FINDINGS[fault.code].check}: {fault.code} {fault.name}"


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER))
    sys.exit(main(sys.argv[1:]))
