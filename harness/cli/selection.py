"""Which jobs a command is about: paths, model tables and filters, the same options everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.errors import CaseFileError, Problem, UsageError, suggest

if TYPE_CHECKING:
    from harness.jobs import Job

BUNDLED = Path(__file__).parents[1] / "bundled" / "cases"


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add PATHS, --model, --engine, --tag and --models to a command."""
    for option in (
        click.option("--models", "tables", multiple=True, metavar="FILE", help="A model table beside the bundled one."),
        click.option("-t", "--tag", "tags", multiple=True, help="Only cases or models with this tag."),
        click.option("-e", "--engine", "engines", multiple=True, help="Only this engine."),
        click.option("-m", "--model", "models", multiple=True, help="Only this model."),
        click.argument("paths", nargs=-1, type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


def case_files(paths: Sequence[Path]) -> list[Path]:
    """Return the case files meant: those given, else those of ./cases, else the bundled ones."""
    from harness.casefile import find_cases

    if paths:
        return find_cases(paths)
    here = Path("cases")
    source = here if here.is_dir() else _bundled()
    return find_cases([source])


def planned_jobs(files: Sequence[Path], tables: Sequence[str]) -> tuple[list[Job], set[Problem]]:
    """Return the jobs of the files that are in order, and every problem of those that are not."""
    from harness.jobs import jobs_in
    from harness.models import load_table

    table = load_table(Path(name) for name in tables)
    planned: list[Job] = []
    problems: list[Problem] = []
    for file in files:
        try:
            planned += jobs_in(file, table)
        except CaseFileError as error:
            problems += error.problems
    return planned, set(problems)


def jobs_of(
    paths: Sequence[Path], tables: Sequence[str], models: Sequence[str], engines: Sequence[str], tags: Sequence[str]
) -> list[Job]:
    """Return the selected jobs. Raises CaseFileError with every file's problems, UsageError for an empty selection."""
    from harness.jobs import refuse_shared_ids

    planned, problems = planned_jobs(case_files(paths), tables)
    if problems:
        raise CaseFileError(problems)
    refuse_shared_ids(planned)
    _refuse_unknown("model", models, {job.row.id for job in planned})
    _refuse_unknown("engine", engines, {job.engine for job in planned})
    _refuse_unknown("tag", tags, {tag for job in planned for tag in (*job.case.tags, *job.row.tags)})
    chosen = [
        job
        for job in planned
        if (not models or job.row.id in models)
        and (not engines or job.engine in engines)
        and (not tags or set(tags) & {*job.case.tags, *job.row.tags})
    ]
    if not chosen:
        raise UsageError("no job has all of the models, engines and tags asked for")
    return chosen


def refuse_installed(paths: Sequence[Path]) -> None:
    """The snapshots of an installed package are part of it; a change there would be lost with the next version."""
    if BUNDLED.is_dir() and any(BUNDLED.resolve() in file.resolve().parents for file in case_files(paths)):
        raise UsageError("the bundled cases belong to the installed package; copy them and give the copy's folder")


def _refuse_unknown(kind: str, names: Sequence[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            raise UsageError(f"no case here has the {kind} {name!r}; {suggest(name, known)}")


def _bundled() -> Path:
    if BUNDLED.is_dir():
        return BUNDLED
    return Path(__file__).parents[2] / "cases"  # an editable install runs from the checkout
