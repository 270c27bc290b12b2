"""`harness validate`: everything that can be said of case files without loading a model, and what cannot."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.help import Helped
from harness.cli.output import put_json
from harness.cli.parameters import printed_json_option
from harness.cli.selection import selection_options, words_of
from harness.jobs.selection import Selection
from harness.vocabulary.errors import EXIT_PASSED, EXIT_USAGE, CaseFileError, Problem
from harness.vocabulary.words import number_of

if TYPE_CHECKING:
    from harness.jobs.preflight import CaseReport


@click.command("validate", cls=Helped)
@selection_options("paths", "tables")
@printed_json_option
def command(selection: Selection, json_file: Path | None) -> int:
    """Check case files without loading a model.

    Names, layers, components, token counts and answers are checked as far as the model tables, the source code of
    mlx-lm and the tokenizers on this machine reach; what was not checked is said. No code of yours is imported.
    """
    from harness.jobs.case_files import case_files
    from harness.jobs.choosing import jobs_and_problems
    from harness.jobs.planning import refuse_shared_ids
    from harness.jobs.preflight import inspect

    files = case_files(selection.paths)
    jobs, problems = jobs_and_problems(files, selection, looking=True)
    refuse_shared_ids(jobs)
    report = inspect(jobs)
    problems |= set(report.problems)
    if json_file:
        put_json(_plain(len(files), len(jobs), problems, report), json_file)
        return EXIT_USAGE if problems else EXIT_PASSED
    if problems:
        raise CaseFileError(problems)
    consent = ["--allow-code"] if any(job.code for job in jobs) else []
    store = ["harness", "run", *words_of(selection), *consent, "--snapshot-update"]
    _say(len(files), len(jobs), report, shlex.join(store))
    return EXIT_PASSED


def _say(files: int, jobs: int, report: CaseReport, store: str) -> None:
    are, make = ("is", "it makes") if files == 1 else ("are", "they make")
    click.echo(f"{number_of(files, 'case file')} {are} valid; {make} {number_of(jobs, 'job')}.")
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
