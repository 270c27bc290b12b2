"""Which jobs a command is about: paths, model tables and filters, the same options everywhere."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from harness.cli import completers
from harness.vocabulary.errors import CaseFileError, EngineUnavailable, Problem, UsageError, suggest

if TYPE_CHECKING:
    from harness.jobs.run import Job
    from harness.support.configuration import Configuration

BUNDLED = Path(__file__).parents[1] / "bundled" / "cases"

tables_option = click.option(
    "--models", "tables", multiple=True, metavar="FILE", help="A model table beside the bundled one."
)
allow_code_option = click.option(
    "--allow-code", is_flag=True, help="Run engines and metrics that are module:function, code of your own."
)
_FILTERS = (
    click.argument("paths", nargs=-1, type=click.Path(path_type=Path), shell_complete=completers.cases),
    click.option("--model", "models", multiple=True, shell_complete=completers.models, help="Only this model."),
    click.option(
        "-e", "--engine", "engines", multiple=True, shell_complete=completers.engines, help="Only this engine."
    ),
    click.option(
        "-t", "--tag", "tags", multiple=True, shell_complete=completers.tags, help="Only cases or models with this tag."
    ),
    click.option(
        "--metric", "metrics", multiple=True, shell_complete=completers.metrics, help="Only this metric of each case."
    ),
    click.option(
        "--component", "components", multiple=True, shell_complete=completers.components,
        help="Only this component of each case.",
    ),
    tables_option,
    allow_code_option,
)  # fmt: skip


@dataclass(frozen=True)
class Chosen:
    """The part of the case files that is meant: nothing given means all of it."""

    paths: tuple[Path, ...] = ()
    tables: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    components: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    allow_code: bool = False

    @property
    def narrowed(self) -> bool:
        """Whether only a part of each case is meant."""
        return bool(self.metrics or self.components)


def selection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command PATHS and the filters as one argument `chosen`; what is not typed comes from the configuration."""

    @functools.wraps(command)
    def with_chosen(**given: Any) -> Any:
        allow_code = given.pop("allow_code")
        names = {name: tuple(given.pop(name)) for name in Chosen.__dataclass_fields__ if name in given}
        return command(chosen=Chosen(**names, allow_code=allow_code), **given)

    for option in reversed(_FILTERS):
        with_chosen = option(with_chosen)
    return configured(with_chosen)


_SETTINGS = {
    "paths": "paths", "tables": "models", "tags": "tags", "engines": "engines", "workers": "workers",
    "strict": "strict", "require_models": "require-models", "download": "download", "results": "results",
}  # fmt: skip
"""Parameter of a command -> key of `[tool.harness]`."""


_WORDS = {
    "tables": "--models", "models": "--model", "engines": "--engine", "tags": "--tag", "metrics": "--metric",
    "components": "--component", "also": "--with-engine",
}  # fmt: skip


def typed(chosen: Chosen, *fields: str) -> list[str]:
    """Return the words that choose the same again, of all `fields` or of those named; not what is configured."""
    given, words = configuration().values, list[str]()
    for field in fields or ("paths", *_WORDS):
        names = [str(name) for name in getattr(chosen, field)]
        if names != [str(name) for name in given.get(_SETTINGS.get(field, ""), ())]:
            option = _WORDS.get(field)
            words += names if option is None else [word for name in names for word in (option, name)]
    return [*words, *(["--allow-code"] if chosen.allow_code else [])]


def configured(command: Callable[..., Any]) -> Callable[..., Any]:
    """Fill what the command line leaves open from `[tool.harness]` of the nearest pyproject.toml."""

    @functools.wraps(command)
    def filled(**given: Any) -> Any:
        context, found = click.get_current_context(), configuration()
        for name in given.keys() & _SETTINGS.keys():
            open_ = context.get_parameter_source(name) is ParameterSource.DEFAULT or given[name] == ()
            if open_ and _SETTINGS[name] in found.values:
                given[name] = _as_typed(name, found.values[_SETTINGS[name]])
        return command(**given)

    return filled


def configuration() -> Configuration:
    """Return what applies in the current folder."""
    from harness.support import configuration as file

    return file.load(Path.cwd())


def _as_typed(name: str, value: Any) -> Any:
    if name == "paths":
        return tuple(map(Path, value))
    return str(value) if name == "workers" else value


def case_files(paths: Sequence[Path]) -> list[Path]:
    """Return the case files meant: those given, else those of ./cases, else the bundled ones."""
    from harness.casefile import find_cases

    if paths:
        return find_cases(paths)
    here = Path("cases")
    source = here if here.is_dir() else bundled_cases()
    return find_cases([source])


def jobs_of(chosen: Chosen) -> list[Job]:
    """Return the selected jobs. Raises CaseFileError with every file's problems, UsageError for an empty selection."""
    from harness.jobs.narrowing import narrowed_jobs

    planned = _planned(chosen)
    _refuse_unknown("model", chosen.models, {job.row.id for job in planned})
    _refuse_unknown("engine", chosen.engines, {job.engine for job in planned})
    _refuse_unknown("tag", chosen.tags, tags_of(planned))
    _refuse_unknown("metric", chosen.metrics, {name for job in planned for name in job.case.metrics})
    _refuse_unknown("component", chosen.components, {name for job in planned for name in job.case.sweep.components})
    kept = [
        job
        for job in planned
        if (not chosen.models or job.row.id in chosen.models)
        and (not chosen.engines or job.engine in chosen.engines)
        and (not chosen.tags or set(chosen.tags) & tags_of([job]))
    ]
    if left := narrowed_jobs(kept, chosen.metrics, chosen.components):
        return left
    raise UsageError(f"no job has {_asked(chosen)} together; `harness list` shows which has what")


def tags_of(jobs: Iterable[Job]) -> set[str]:
    """Return the tags of jobs: those of their cases and of their models."""
    return {tag for job in jobs for tag in (*job.case.tags, *job.row.tags)}


def planned_jobs(
    files: Sequence[Path], tables: Sequence[str], allow_code: bool = False, also: Sequence[str] = ()
) -> tuple[list[Job], set[Problem]]:
    """Return the jobs of the files that are in order, and every problem of those that are not."""
    from harness.jobs.run import jobs_in
    from harness.models import load_table

    table = load_table(Path(name) for name in tables)
    planned: list[Job] = []
    problems: list[Problem] = []
    for file in files:
        try:
            planned += jobs_in(file, table, allow_code, also)
        except CaseFileError as error:
            problems += error.problems
    return planned, set(problems)


def refuse_installed(paths: Sequence[Path]) -> None:
    """The snapshots of an installed package are part of it; a change there would be lost with the next version."""
    if BUNDLED.is_dir() and any(BUNDLED.resolve() in file.resolve().parents for file in case_files(paths)):
        raise UsageError("the bundled cases belong to the installed package; copy them and give the copy's folder")


def refuse_unknown_engines(names: Sequence[str], allow_code: bool) -> None:
    """Raise UnknownName or UsageError for an engine that cannot be asked; one that is not installed is skipped."""
    from harness.engines import engine_named

    for name in names:
        with contextlib.suppress(EngineUnavailable):
            engine_named(name, allow_code)


def _planned(chosen: Chosen) -> list[Job]:
    from harness.jobs.run import refuse_shared_ids

    refuse_unknown_engines(chosen.also, chosen.allow_code)
    planned, problems = planned_jobs(case_files(chosen.paths), chosen.tables, chosen.allow_code, chosen.also)
    if problems:
        raise CaseFileError(problems)
    refuse_shared_ids(planned)
    return planned


def _asked(chosen: Chosen) -> str:
    words = (
        ("--model", chosen.models), ("--engine", chosen.engines), ("--tag", chosen.tags),
        ("--metric", chosen.metrics), ("--component", chosen.components),
    )  # fmt: skip
    return ", ".join(f"{option} {' or '.join(names)}" for option, names in words if names)


def _refuse_unknown(kind: str, names: Sequence[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            guest = f"; `harness run --with-engine {name}` asks it in every case" if kind == "engine" else ""
            raise UsageError(f"no case here has the {kind} {name!r}; {suggest(name, known)}{guest}")


def bundled_cases() -> Path:
    """Return the folder of the bundled cases."""
    if BUNDLED.is_dir():
        return BUNDLED
    return Path(__file__).parents[2] / "cases"  # an editable install runs from the checkout
