"""The table of docs/tolerances.md: how far numbers drift by dtype, read from reports of `harness doctor --report`.

python docs/drift_table.py REPORT...     puts a row for each dtype of each report between the marks of the page
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from harness.results.json import read
from harness.vocabulary import RunResult

PAGE = Path(__file__).with_name("tolerances.md")
MARKS = re.compile(r"(<!-- drift -->\n).*?(<!-- end -->)", re.DOTALL)
HEAD = """\
| computed on | compared with | dtype | jobs | recoveries move by | baselines move by | tolerance used |
|---|---|---|---|---|---|---|
"""


def rows(run: RunResult) -> Iterator[str]:
    """Yield a row for each dtype: the largest moves, and the largest share of its tolerance that a number takes."""
    machine = run.machine
    for each in machine.drift if machine else ():
        what = f"| {run.environment.backend} | {each.against} | {each.dtype} | {each.jobs} "
        yield f"{what}| {each.points:.2g} points | {each.relative:.1e} | {each.used:.0%} |\n"


def filled(page: str, runs: list[RunResult]) -> str:
    """Return the page with the rows of these reports between its marks."""
    table = HEAD + "".join(row for run in runs for row in rows(run))
    return MARKS.sub(lambda found: f"{found[1]}{table}{found[2]}", page)


if __name__ == "__main__":
    reports = [read(Path(name)) for name in sys.argv[1:]]
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), reports), encoding="utf-8")
