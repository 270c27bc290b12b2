"""`harness run`: a front over pytest with a configuration of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import completers
from harness.cli.parameters import OutputFile
from harness.cli.run_conditions import LAST, chosen_ids, refuse_other_device, remember
from harness.cli.selection import (
    Chosen,
    case_files,
    configuration,
    jobs_of,
    refuse_installed,
    selection_options,
    tags_of,
    typed,
)
from harness.results.reports.outputs import REPORTS, write
from harness.results.shards import Shard
from harness.vocabulary import RunResult, bytes_of
from harness.vocabulary.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_NOTHING_RAN, UsageError, suggest

if TYPE_CHECKING:
    from harness.jobs.run import Job

CONFIGURATION = Path(__file__).with_name("run.pytest.ini")


@click.command("run")
@selection_options
@click.option(
    "--with-engine",
    "also",
    multiple=True,
    metavar="NAME",
    shell_complete=completers.engines,
    help="Ask this engine too, in every case; it has no snapshots.",
)
@click.option(
    "-k", "keyword", metavar="EXPRESSION", help="Only jobs whose name matches, as in pytest: 'dial and not f16'."
)
@click.option(
    "-m", "marks", metavar="EXPRESSION", help="Only jobs whose tags match, as in pytest: 'report and not moe'."
)
@click.option("--job", "ids", multiple=True, metavar="ID", help="Only the job with this id, as in reports.")
@click.option("--failed", is_flag=True, help="Only jobs that the last run failed or did not reach.")
@click.option("--failed-in", type=click.Path(path_type=Path), metavar="FILE", help="The same, of this result file.")
@click.option("--shard", metavar="I/N", help="Only the I-th of N parts; `harness merge` puts their results together.")
@click.option("--min-jobs", type=click.IntRange(min=1), metavar="N", help="Fail if fewer jobs ran.")
@click.option("--device", type=click.Choice(["cpu", "gpu"]), help="Compute on this device, not on MLX's own choice.")
@click.option("--require-device", metavar="NAME", help="Refuse to run but on: cpu, gpu, or a device's name.")
@click.option("-n", "--workers", default="0", help="Worker processes; each loads a model once. `auto`: one a core.")
@click.option("-x", "--exitfirst", is_flag=True, help="Stop at the first job that fails.")
@click.option("--strict/--no-strict", default=False, help="Warnings fail a job.")
@click.option("--snapshot-update", is_flag=True, help="Store the numbers of every job that passes its other checks.")
@click.option(
    "--memory", help="What a walk over the layers may take above the weights, as in 2GB; over the cases' own."
)
@click.option("--download/--no-download", default=False, help="Fetch models that are not on this machine.")
@click.option("--require-models/--no-require-models", default=False, help="A job without its model fails, not skips.")
@click.option("--json", "json_file", type=OutputFile("result"), help="Write the result here.")
@click.option("--junit", type=OutputFile("junit"), help="Write a JUnit report here.")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=OutputFile("html", "markdown", "result", "junit"),
    help="Write a report; the suffix chooses: .html, .md, .json, .xml (JUnit).",
)
@click.option("--annotations", is_flag=True, help="Print GitHub annotations that point at the case files.")
@click.option("--results", default="results", show_default=True, help="Folder for candidates and the last result.")
@click.option("-v", "--verbose", is_flag=True, help="Show every job and every finding, and each job as it ends.")
@click.option("-q", "--quiet", is_flag=True, help="Show only what failed and the verdict, and no progress.")
def command(
    chosen: Chosen, keyword: str | None, marks: str | None, ids: tuple[str, ...], failed: bool,
    failed_in: Path | None, shard: str | None, min_jobs: int | None, device: str | None,
    require_device: str | None, workers: str, exitfirst: bool, strict: bool, snapshot_update: bool,
    download: bool, require_models: bool, json_file: Path | None, junit: Path | None, outputs: tuple[Path, ...],
    annotations: bool, results: str, memory: str | None, verbose: bool, quiet: bool,
) -> int:  # fmt: skip
    """Run case files and give a verdict.

    PATHS are case files or folders; without any, those of ./cases, or the bundled ones.
    """
    _refuse_workers(workers)
    if memory is not None:
        _refuse_amount(memory)
    if shard:
        Shard.parse(shard)
    if failed:
        failed_in = Path(results, LAST)
    jobs = jobs_of(chosen)
    wanted = chosen_ids(jobs, ids, failed_in)
    _refuse_unknown_tags(marks, jobs)
    refuse_other_device(require_device, device)
    if snapshot_update:
        refuse_installed(chosen.paths)
    reports, junit = _sorted_out(outputs, junit)
    if verbose:
        click.echo(f"configuration: {configuration()}", err=True)
    tables = [str(Path(name).resolve()) for name in chosen.tables]
    arguments = [
        *_fixed_arguments(),
        *([f"-n{workers}"] if workers != "0" else []),
        *(["-x"] if exitfirst else []),
        *(["-k", keyword] if keyword else []),
        *(["-m", marks] if marks else []),
        *(["--snapshot-update"] if snapshot_update else []),
        *(["--harness-strict"] if strict else []),
        *([f"--harness-device={device}"] if device else []),
        *([f"--harness-memory={memory}"] if memory else []),
        *(["--harness-download"] if download else []),
        *(["--harness-require-models"] if require_models else []),
        *(["--harness-allow-code"] if chosen.allow_code else []),
        *(f"--harness-with-engine={name}" for name in chosen.also),
        *([f"--harness-json={json_file}"] if json_file else []),
        *([f"--junit-xml={junit}"] if junit else []),
        *([f"--harness-shard={shard}"] if shard else []),
        *([f"--harness-min-jobs={min_jobs}"] if min_jobs else []),
        *(f"--harness-only=job={name}" for name in wanted),
        f"--harness-results={results}",
        *(f"--harness-models={table}" for table in tables),
        *_filters(chosen),
        *(str(file) for file in case_files(chosen.paths)),
    ]
    screen = _Screen(strict, verbose - quiet, _again(chosen, strict))
    code, run = _pytest(arguments, screen, Path(results))
    if run is not None:
        _report(run, reports, annotations)
    if code == EXIT_NOTHING_RAN and (keyword or marks):
        _say_what_there_is(jobs, keyword, marks)
    return code


def _report(run: RunResult, files: Sequence[Path], annotations: bool) -> None:
    for file in files:
        write(run, file)
    if annotations:
        click.echo(REPORTS["annotations"](run), nl=False)


def _sorted_out(outputs: tuple[Path, ...], junit: Path | None) -> tuple[list[Path], Path | None]:
    """Return the reports that the result makes, and the JUnit file, which pytest writes. Raises UsageError."""
    xml = [file for file in (junit, *outputs) if file is not None and (file is junit or file.suffix == ".xml")]
    if len(xml) > 1:
        raise UsageError(f"one JUnit file a run: {' and '.join(map(str, xml))} were asked for")
    return [file for file in outputs if file.suffix != ".xml"], xml[0] if xml else None


def _fixed_arguments() -> list[str]:
    return [
        f"-c{CONFIGURATION}",
        f"--rootdir={Path.cwd()}",
        "--noconftest",
        "--collect-in-virtualenv",
        # Whoever compared snapshots before has loaded syrupy already; its asserts are not what a run is about.
        "-Wignore::pytest.PytestAssertRewriteWarning",
        "--harness-configured",
        "-pno:terminal",
        "-pno:cacheprovider",
        "-psyrupy",
        "-pxdist",
        "-pharness.pytest_plugin",
    ]


def _filters(chosen: Chosen) -> Iterator[str]:
    """Yield the filters in the plugin's own form."""
    for kind, names in (
        ("model", chosen.models),
        ("engine", chosen.engines),
        ("tag", chosen.tags),
        ("metric", chosen.metrics),
        ("component", chosen.components),
    ):
        yield from (f"--harness-only={kind}={name}" for name in names)


def _again(chosen: Chosen, strict: bool) -> tuple[str, ...]:
    """Return the options that a command must repeat to see the same: those that the configuration does not give."""
    words = typed(chosen, "tables", "also")
    return (*words, *(["--strict"] if strict and not configuration().values.get("strict") else []))


class _Screen:
    """What the person who runs wants to see: warnings as failures, more or less (-1, 0, 1), and options to repeat."""

    def __init__(self, strict: bool, verbosity: int, again: tuple[str, ...]):
        self.strict, self.verbosity, self.again = strict, verbosity, again


def _pytest(arguments: list[str], screen: _Screen, results: Path) -> tuple[int, RunResult | None]:
    import pytest

    from harness.cli.watching import watching
    from harness.results.reports.terminal import console, print_run

    # Neither the caller's options nor other people's plugins have a say in a verdict.
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    keeper = _Keeper()
    code = EXIT_INTERRUPTED
    with watching(screen.verbosity) as watcher:
        code = int(pytest.main(arguments, plugins=[keeper, watcher]))
    run = keeper.run_result
    if keeper.refusal:
        click.echo(f"harness: {keeper.refusal}", err=True)
    if run is not None:
        remember(run, results)
        print_run(run, console(), screen.strict, screen.verbosity, screen.again)
    elif code == EXIT_INTERNAL:
        click.echo("harness: pytest reports an internal error, above", err=True)
    return code, run


class _Keeper:
    """Takes the result out of the pytest session before it is gone."""

    run_result: Any = None
    refusal: str | None = None

    def pytest_unconfigure(self, config: Any) -> None:
        ledger = config.pluginmanager.get_plugin("harness-ledger")
        self.run_result, self.refusal = ledger.run_result, ledger.refusal


def _refuse_workers(text: str) -> None:
    if not (text.isdecimal() or text in ("auto", "logical")):
        raise UsageError(f"-n {text}: expected a number of worker processes, or auto")


def _refuse_amount(text: str) -> None:
    try:
        bytes_of(text)
    except ValueError as error:
        raise UsageError(f"--memory: {error}") from error


_WORD = re.compile(r"[\w.:+\\/\[\]-]+")


def _refuse_unknown_tags(marks: str | None, jobs: Sequence[Job]) -> None:
    """Refuse a tag that no job has: an expression over it selects nothing, or everything, in silence."""
    tags, models = tags_of(jobs), {job.row.id for job in jobs}
    for word in _WORD.findall(marks or ""):
        if word in models - tags:
            raise UsageError(f"-m {word}: -m selects by tags, and this is a model; --model {word} selects it")
        if word not in tags | {"and", "or", "not", "True", "False"}:
            raise UsageError(f"-m {marks}: no job has the tag {word!r}; {suggest(word, tags)}")


def _say_what_there_is(jobs: Sequence[Job], keyword: str | None, marks: str | None) -> None:
    asked = " ".join(f"{option} {text!r}" for option, text in (("-k", keyword), ("-m", marks)) if text)
    names = [name for job in jobs for name in (job.case.id, job.row.id, job.engine)]
    near = suggest(keyword, names) if keyword and _WORD.fullmatch(keyword) else ""
    hint = near if near.startswith("did you mean") else f"a name is {jobs[0].id}; `harness list` shows them all"
    click.echo(f"harness: none of {len(jobs)} jobs matches {asked}; {hint}", err=True)
