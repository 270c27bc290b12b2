"""`harness validate`: everything that can be said of case files without loading a model, and what cannot."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.selection import Chosen, allow_code_option, case_files, configured, planned_jobs, tables_option, typed
from harness.vocabulary.errors import EXIT_PASSED, EXIT_USAGE, CaseFileError, Problem

if TYPE_CHECKING:
    from harness.jobs.preflight import CaseReport


@click.command("validate")
@tables_option
@allow_code_option
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@configured
def command(paths: tuple[Path, ...], tables: tuple[str, ...], allow_code: bool, as_json: bool) -> int:
    """Check case files without loading a model.

    Names, layers, components, token counts and answers are checked as far as the model tables, the source code of
    mlx-lm and the tokenizers on this machine reach; what was not checked is said.
    """
    from harness.jobs.preflight import inspect
    from harness.jobs.run import refuse_shared_ids

    files = case_files(paths)
    jobs, problems = planned_jobs(files, tables, allow_code)
    refuse_shared_ids(jobs)
    report = inspect(jobs)
    problems |= set(report.problems)
    if as_json:
        click.echo(json.dumps(_plain(len(files), len(jobs), problems, report), indent=1, ensure_ascii=False))
        return EXIT_USAGE if problems else EXIT_PASSED
    if problems:
        raise CaseFileError(problems)
    store = ["harness", "run", *typed(Chosen(paths, tuple(tables), allow_code=allow_code)), "--snapshot-update"]
    _say(len(files), len(jobs), report, shlex.join(store))
    return EXIT_PASSED


def _say(files: int, jobs: int, report: CaseReport, store: str) -> None:
    click.echo(f"{files} case files are valid; they make {jobs} jobs.")
    for each in report.not_checked:
        click.echo(f"not checked: {each}")
    if report.without_snapshot:
        shown = ", ".join(report.without_snapshot[:3])
        more = f" and {len(report.without_snapshot) - 3} more" if len(report.without_snapshot) > 3 else ""
        click.echo(f"no snapshot yet: {shown}{more}; `{store}` stores them")


def _plain(files: int, jobs: int, problems: set[Problem], report: CaseReport) -> dict[str, object]:
    return {
        "valid": not problems,
        "files": files,
        "jobs": jobs,
        "problems": [asdict(problem) for problem in sorted(problems)],
        "not_checked": [asdict(each) for each in report.not_checked],
        "without_snapshot": list(report.without_snapshot),
    }
