"""`harness run`: a front over pytest with a configuration of its own."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.help import Helped
from harness.cli.output import complain, print_commands
from harness.cli.parameters import (
    OutputFile,
    dequantise_option,
    device_option,
    json_option,
    known_option,
    outputs_option,
    workers_option,
    write_known_option,
)
from harness.cli.run_conditions import LAST, failed_in_last, refuse_other_device, remember
from harness.cli.selection import configuration, selection_options
from harness.jobs.selection import PlannedRun, Selection
from harness.results.reports.outputs import REPORTS, write
from harness.results.shards import Shard
from harness.vocabulary import NEVER, JobResult, RunResult, Status, bytes_of
from harness.vocabulary.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_NOTHING_RAN, UsageError, suggest
from harness.vocabulary.verdict import graver
from harness.vocabulary.words import number_of

if TYPE_CHECKING:
    from harness.jobs.planning import Job

CONFIGURATION = Path(__file__).with_name("run.pytest.ini")


@dataclass(frozen=True)
class RunOptions:
    """How the selected jobs are run and what is written of them. Raises UsageError for a value without a meaning."""

    keyword: str | None = None
    marks: str | None = None
    shard: str | None = None
    min_jobs: int | None = None
    require_device: str | None = None
    workers: str | None = None
    job_timeout: float | None = None
    exitfirst: bool = False
    strict: bool = False
    snapshot_update: bool = False
    memory: str | None = None
    prove: bool = False
    dequantise: str = NEVER
    download: bool = False
    require_models: bool = False
    json_file: Path | None = None
    junit: Path | None = None
    outputs: tuple[Path, ...] = ()
    known: Path | None = None
    write_known: Path | None = None
    annotations: bool = False
    results: str = "results"
    verbose: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.workers is not None:
            _refuse_workers(self.workers)
        if self.job_timeout is not None and not 0 < self.job_timeout < math.inf:
            raise UsageError(f"--job-timeout {self.job_timeout:g}: expected a number of seconds above 0")
        if self.memory is not None:
            _refuse_amount(self.memory)
        if self.shard:
            Shard.parse(self.shard)

    @property
    def verbosity(self) -> int:
        """-1, 0 or 1: less or more than usual."""
        return self.verbose - self.quiet

    @property
    def reports(self) -> list[tuple[Path, str | None]]:
        """The reports that are made from the result: a file, and which one where its suffix does not say."""
        return [*([(self.junit, "junit")] if self.junit else []), *((file, None) for file in self.outputs)]


@click.command("run", cls=Helped)
@selection_options(*Selection.__dataclass_fields__)
@click.option(
    "-k", "keyword", metavar="EXPRESSION", help="Only jobs whose name matches, as in pytest: 'dial and not f16'."
)
@click.option("--marks", metavar="EXPRESSION", help="Only jobs whose tags match, as in pytest: 'report and not moe'.")
@click.option("--failed", is_flag=True, help="Only jobs that the last run failed or did not reach.")
@click.option("--failed-in", type=click.Path(path_type=Path), metavar="FILE", help="The same, of this result file.")
@click.option("--shard", metavar="I/N", help="Only the I-th of N parts; `harness merge` puts their results together.")
@click.option("--min-jobs", type=click.IntRange(min=1), metavar="N", help="Fail if fewer jobs ran.")
@device_option
@click.option("--require-device", metavar="NAME", help="Refuse to run but on: cpu, gpu, or a device's name.")
@workers_option
@click.option(
    "--job-timeout", type=float, metavar="SECONDS", help="End a job that takes longer, if its case has no `timeout`."
)
@click.option("-x", "--exitfirst", is_flag=True, help="Stop at the first job that fails.")
@click.option("--strict/--no-strict", default=False, help="Warnings about the engine or the case fail a job.")
@click.option("--snapshot-update", is_flag=True, help="Store the numbers of every job that passes its other checks.")
@click.option(
    "--memory",
    metavar="SIZE",
    help="What a walk over the layers may take above the weights, as in 2GB; over the cases' own.",
)
@click.option("--prove", is_flag=True, help="Prove every walk anew; rely on no proof that is remembered.")
@dequantise_option
@click.option("--download/--no-download", default=False, help="Fetch models that are not on this machine.")
@click.option("--require-models/--no-require-models", default=False, help="A job without its model fails, not skips.")
@known_option
@write_known_option
@json_option("result")
@click.option("--junit", type=OutputFile("junit"), help="Write a JUnit report here.")
@outputs_option
@click.option("--annotations", is_flag=True, help="Print GitHub annotations that point at the case files.")
@click.option(
    "--results",
    default="results",
    show_default=True,
    metavar="FOLDER",
    help="Folder for candidates and the last result.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show every job and every finding, and each job as it ends.")
@click.option("-q", "--quiet", is_flag=True, help="Show only what failed and the verdict, and no progress.")
def command(selection: Selection, failed: bool, failed_in: Path | None, **given: Any) -> int:
    """Run case files and give a verdict.

    PATHS are case files or folders, `bundled` or `bundled:CASE`; without any, those of ./cases, or where nobody has
    cases of their own (no CI, no repository, no [tool.harness]) the bundled ones.
    """
    from harness.jobs.choosing import chosen_from, left_out_files, planned_jobs

    planned = planned_jobs(selection)
    if old := _expressions(selection.models, planned):
        selection = replace(selection, models=tuple(name for name in selection.models if name not in old))
        given["marks"] = _joined([*filter(None, [given["marks"]]), *old])
        complain(f"-m is --model; {' and '.join(map(repr, old))} was read as --marks")
        planned = planned_jobs(selection)
    options = RunOptions(**given)
    if failed:
        failed_in = Path(options.results, LAST)
    chosen = chosen_from(planned, selection)
    notes = left_out_files(selection, planned, configuration().values)
    if failed_in is None:
        return run_jobs(selection, planned, chosen, options, notes)
    again, earlier = failed_in_last(chosen, failed_in)
    if gone := [name for name in earlier if name not in {job.id for job in chosen}]:
        notes.append(f"failed in {failed_in} and not selected now: {', '.join(gone)}")
    return run_jobs(selection, planned, again, options, notes, kept=tuple(earlier.values()) if failed else ())


def run_jobs(
    selection: Selection,
    planned: Sequence[Job],
    chosen: Sequence[Job],
    options: RunOptions,
    notes: Sequence[str] = (),
    kept: Sequence[JobResult] = (),
) -> int:
    """Run the chosen ones of the planned jobs and return the exit code. Raises UsageError before anything is run.

    `notes` are added to the result's; `kept` are failures of earlier runs that `--failed` is to remember.
    """
    from harness.jobs.narrowing import narrowed_jobs

    _refuse_unknown_tags(options.marks, chosen)
    _refuse_impossible(selection, options)
    if options.verbose:
        click.echo(f"configuration: {configuration()}", err=True)
    run = PlannedRun(selection, narrowed_jobs(planned, selection.metrics, selection.components), chosen, notes, kept)
    code = _pytest(run, options)
    if run.result is not None:
        code = _told(run.result, run, options, code)
    if (
        (options.keyword or options.marks)
        and code == EXIT_NOTHING_RAN
        and (run.result is None or not run.result.planned)
    ):
        _say_what_there_is(chosen, options.keyword, options.marks)
    return code


def _refuse_impossible(selection: Selection, options: RunOptions) -> None:
    """Raise what makes a run impossible now rather than after an hour of work."""
    from harness.casefile.known import refuse_to_replace
    from harness.jobs.case_files import refuse_installed
    from harness.jobs.known import read_known

    refuse_other_device(options.require_device)
    if options.write_known:
        refuse_to_replace(options.write_known, options.known)
    read_known(options.known)
    if options.snapshot_update:
        refuse_installed(selection.paths)


def _told(run: RunResult, planned: PlannedRun, options: RunOptions, code: int) -> int:
    """Write the reports, then print the run; return the exit code that its last line states."""
    from harness.results.reports.terminal import console, print_run

    for file, report in options.reports:
        try:
            write(run, file, report)
        except UsageError as error:
            run = graver(run, Status.REFUSED, str(error))
            code = run.exit_code
    print_run(run, console(), options.strict, options.verbosity, _again(run, options.strict))
    if options.annotations:
        print_commands(REPORTS["annotations"](run))
    return code


_SPARE_WORKERS = 10
"""How many workers that die before their first job are replaced."""
_FIXED = (
    f"-c{CONFIGURATION}",
    "--noconftest",
    # The folder that the plugin fills with the planned case files.
    "--rootdir=.",
    "--confcutdir=.",
    ".",
    # Whoever compared snapshots before has loaded syrupy already; its asserts are not what a run is about.
    "-Wignore::pytest.PytestAssertRewriteWarning",
    "-pno:terminal",
    "-pno:cacheprovider",
    "-psyrupy",
    "-pxdist",
    "-pharness.pytest_plugin",
)
_PASSED_ON = {
    "exitfirst": "-x", "keyword": "-k", "marks": "-m", "snapshot_update": "--snapshot-update",
    "json_file": "--harness-json", "strict": "--harness-strict",
    "memory": "--harness-memory", "prove": "--harness-prove",
    "dequantise": "--harness-dequantise", "download": "--harness-download",
    "require_models": "--harness-require-models", "shard": "--harness-shard", "min_jobs": "--harness-min-jobs",
    "results": "--harness-results", "job_timeout": "--harness-job-timeout", "known": "--harness-known",
    "write_known": "--harness-write-known",
}  # fmt: skip
"""Field of RunOptions -> the option of pytest or of the plugin that does it."""


def _arguments(run: PlannedRun, options: RunOptions) -> Iterator[str]:
    """Yield pytest's arguments. The selection is no part of them: the plugin is given the planned run itself."""
    yield from _FIXED
    yield f"-n{_workers(run, options)}"
    yield f"--max-worker-restart={len(run.chosen) + _SPARE_WORKERS}"  # every job may end its worker
    for field, word in _PASSED_ON.items():
        if value := getattr(options, field):
            yield word if value is True else f"{word}={value}"


def _workers(run: PlannedRun, options: RunOptions) -> str:
    """Return how many worker processes are used: one at least where a job may hang, or end its process, and one where
    nobody says how many and a GPU computes, whose kernels may end it as well."""
    from harness.environment.facts import backend

    alone = not (options.job_timeout or any(job.case.timeout or job.runs_code for job in run.chosen))
    if options.workers is None:
        return "0" if alone and backend().startswith("cpu") else "1"
    return options.workers if alone or options.workers.strip("0") else "1"


def _again(run: RunResult, strict: bool) -> tuple[str, ...]:
    """Return the options that a command must repeat to see the same: those that the configuration does not give."""
    return (*run.repeat, *(["--strict"] if strict and not configuration().values.get("strict") else []))


def _pytest(planned: PlannedRun, options: RunOptions) -> int:
    import pytest

    from harness.cli.watching import watching
    from harness.support.interpreter import safe_children

    # Neither the caller's options nor other people's plugins have a say in a verdict.
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    code = EXIT_INTERRUPTED
    workers = safe_children() if _workers(planned, options) != "0" else nullcontext()
    with watching(options.verbosity) as watcher, workers:
        code = int(pytest.main([*_arguments(planned, options)], plugins=[planned, watcher]))
    if planned.refusal:
        complain(planned.refusal)
    if planned.result is not None:
        remember(planned.result, Path(options.results), planned.kept)
    elif code == EXIT_INTERNAL:
        complain("pytest reports an internal error, above")
    return code


def _refuse_workers(text: str) -> None:
    if not (text.isdecimal() or text in ("auto", "logical")):
        raise UsageError(f"-n {text}: expected a number of worker processes, or auto")


def _refuse_amount(text: str) -> None:
    try:
        bytes_of(text)
    except ValueError as error:
        raise UsageError(f"--memory: {error}") from error


def _expressions(names: Sequence[str], jobs: Sequence[Job]) -> list[str]:
    """Return what `-m` was given in its old meaning, an expression over tags."""
    tags, given = {tag for job in jobs for tag in job.tags}, {job.given for job in jobs}
    return [name for name in names if name in tags or not (name in given or {*name}.isdisjoint(" ()"))]


def _joined(expressions: Sequence[str]) -> str:
    return expressions[0] if len(expressions) == 1 else " and ".join(f"({each})" for each in expressions)


_WORD = re.compile(r"[\w.:+\\/\[\]-]+")


def _refuse_unknown_tags(marks: str | None, jobs: Sequence[Job]) -> None:
    """Refuse a tag that no job has: an expression over it selects nothing, or everything, in silence."""
    tags, models = {tag for job in jobs for tag in job.tags}, {job.row.id for job in jobs}
    for word in _WORD.findall(marks or ""):
        if word in models - tags:
            raise UsageError(f"--marks {word}: tags are meant, and this is a model; --model {word} selects it")
        if word not in tags | {"and", "or", "not", "True", "False"}:
            raise UsageError(f"--marks {marks}: no job has the tag {word!r}; {suggest(word, tags)}")


def _say_what_there_is(jobs: Sequence[Job], keyword: str | None, marks: str | None) -> None:
    asked = " ".join(f"{option} {text!r}" for option, text in (("-k", keyword), ("--marks", marks)) if text)
    names = [name for job in jobs for name in (job.case.id, job.row.id, job.engine)]
    near = suggest(keyword, names) if keyword and _WORD.fullmatch(keyword) else ""
    hint = near if near.startswith("did you mean") else f"a name is {jobs[0].id}; `harness list` shows them all"
    complain(f"none of {number_of(len(jobs), 'job')} matches {asked}; {hint}")
