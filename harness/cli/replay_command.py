"""`harness replay`: numbers somebody published or recorded, checked without a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.help import Helped
from harness.cli.parameters import printed_json_option
from harness.vocabulary.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from harness.results.replay import Audit


@click.command("replay", cls=Helped)
@click.argument("file")
@click.option(
    "--error",
    metavar="PART",
    type=click.FloatRange(0, 1, max_open=True),
    help="The part of a distance that its arithmetic may be off by; 1e-6 without it, or what the file says.",
)
@click.option("--all", "everything", is_flag=True, help="Every number and every contradiction, however many.")
@printed_json_option
def command(file: str, error: float | None, everything: bool, json_file: Path | None) -> int:
    """Check published or recorded numbers without a model.

    FILE is a YAML file of baselines and recoveries, the result that `run --json` wrote, a table as somebody pasted it
    (`-` reads standard input), or the name of a bundled table: qwen3-30b-report. Says what cannot be true, and for
    every number which altered digit would be noticed.

    Exit codes: 0 nothing contradicts itself, 1 something cannot be true or is no finite number, 4 the file cannot be
    read as written, 5 no relation between the numbers could be checked.
    """
    if error is not None and math.isnan(error):
        raise UsageError("--error: nan is not a part of a distance; give a number such as 1e-4")
    from harness.results.replay import audit, read_tables

    return printed([audit(table) for table in read_tables(_file_of(file), error)], everything, json_file)


def printed(audits: Sequence[Audit], everything: bool = False, json_file: Path | None = None) -> int:
    """Print what tables were found to say, and return the exit code."""
    from harness.cli.output import put_json
    from harness.results.replay import judge, plain, print_audits
    from harness.results.reports.terminal import console

    if json_file:
        put_json(plain(audits), json_file)
    else:
        print_audits(audits, console(), everything)
    return judge(audits)[1]


def _file_of(file: str) -> Path:
    """Return the file given by path or by the name of a bundled table. Raises UnknownName with the nearest name."""
    from harness.jobs.case_files import bundled_cases
    from harness.results.replay import SUFFIX

    if file == "-" or "." in file or "/" in file or Path(file).exists():
        return Path(file)
    bundled = {each.name.removesuffix(SUFFIX): each for each in sorted(bundled_cases().rglob(f"*{SUFFIX}"))}
    if file not in bundled:
        raise UnknownName("table", file, bundled)
    return bundled[file]
