"""From a selection to its jobs: the case files are read, each once, and the filters applied."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.engines import engine_named
from harness.jobs.case_files import case_files, named_files
from harness.jobs.narrowing import narrowed_jobs
from harness.jobs.planning import Job, jobs_in, refuse_shared_ids
from harness.jobs.selection import Selection
from harness.models import ModelRow, load_table, row_named
from harness.vocabulary.errors import CaseFileError, EngineUnavailable, Problem, UsageError


def jobs_of(selection: Selection, looking: bool = False) -> list[Job]:
    """Return the selected jobs, to be run or only looked at.

    Raises CaseFileError with every file's problems, UsageError for an empty selection.
    """
    return chosen_from(planned_jobs(selection, looking), selection)


def planned_jobs(selection: Selection, looking: bool = False) -> list[Job]:
    """Return every job of a selection's case files. Raises CaseFileError with every file's problems, UsageError."""
    _refuse_unknown_engines(selection.also, selection.allow_code)
    jobs, problems = jobs_and_problems(case_files(selection.paths), selection, looking)
    if problems:
        raise CaseFileError(problems)
    refuse_shared_ids(jobs)
    return jobs


def jobs_and_problems(
    files: Sequence[Path], selection: Selection, looking: bool = False
) -> tuple[list[Job], set[Problem]]:
    """Return the jobs of the files that are in order, and every problem of those that are not."""
    table = load_table(map(Path, selection.tables))
    asked = models_given(selection.models, table)
    jobs: list[Job] = []
    problems: set[Problem] = set()
    for file in files:
        try:
            jobs += jobs_in(file, table, selection.allow_code, selection.also, asked, looking)
        except CaseFileError as error:
            problems |= set(error.problems)
    return [*applicable(_without_guests(jobs, table))], problems


def models_given(names: Sequence[str], table: Mapping[str, ModelRow]) -> dict[str, ModelRow]:
    """Return the rows of models that are given by a folder, a repository or an id of a table; patterns only choose.

    Raises UsageError for a path that is no folder.
    """
    meant = (name for name in names if name in table or "/" in name or Path(name).expanduser().is_dir())
    return {name: row_named(name, table) for name in meant}


def _without_guests(jobs: Sequence[Job], table: Mapping[str, ModelRow]) -> list[Job]:
    """Return the jobs without the guests whose id some case names: that id chooses among the cases."""
    named = {job.row.id for job in jobs if job.given is None}
    return [job for job in jobs if job.given not in table or job.row.id not in named]


def applicable(jobs: Iterable[Job]) -> Iterator[Job]:
    """Yield the jobs, guests with the reason why their case cannot be asked of their model, if there is one."""
    from harness.jobs.preflight import refusal

    for job in jobs:
        yield replace(job, inapplicable=refusal(job)) if job.given is not None else job


def chosen_from(jobs: Collection[Job], selection: Selection) -> list[Job]:
    """Return the selected ones of these jobs, with the part of each that is meant.

    Raises UsageError for a name that no job has, and where no job is left.
    """
    if selection.ids:
        # An id is exact: one that another filter leaves out is a mistake.
        chosen, only = chosen_from(jobs, replace(selection, ids=())), Selection(ids=selection.ids)
        only.refuse_unknown(chosen)
        return [job for job in chosen if only.selects(job)]
    selection.refuse_unknown(jobs)
    if left := narrowed_jobs(filter(selection.selects, jobs), selection.metrics, selection.components):
        return left
    raise selection.nothing_left()


def left_out_files(selection: Selection, jobs: Collection[Job], configured: Mapping[str, Any]) -> list[str]:
    """Return a line for each case file that is given by name and has no selected job, because of what was typed.

    Raises UsageError where only `[tool.harness]` leaves it out: who names a file did not ask for that.
    """
    lines, typed = [], selection.without(configured)
    for name, file in named_files(selection.paths):
        own = [job for job in jobs if job.case.path == file]
        if own and not any(map(selection.selects, own)):
            if any(map(typed.selects, own)):
                raise UsageError(
                    f"{name}: no job of it is left by the filters of [tool.harness]; give others, or --tag"
                )
            lines.append(f"not run: no job of {name} is selected")
    return lines


def _refuse_unknown_engines(names: Sequence[str], allow_code: bool) -> None:
    """Raise UnknownName or UsageError for an engine that cannot be asked, or is not installed: it is asked by name."""
    for name in names:
        try:
            engine_named(name, allow_code)
        except EngineUnavailable as error:
            raise UsageError(f"--with-engine {name}: {error}") from error
