"""`harness run`: a front over pytest with a configuration of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from harness.cli.run_conditions import LAST, chosen_ids, refuse_other_device, remember
from harness.cli.selection import case_files, jobs_of, refuse_installed, selection_options
from harness.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, UsageError
from harness.reporters.outputs import REPORTS, check_writable, kind_of, write
from harness.shards import Shard
from harness.vocabulary import RunResult

CONFIGURATION = Path(__file__).with_name("run.pytest.ini")


@click.command("run")
@selection_options
@click.option("-k", "keyword", help="Only jobs whose name matches this pytest expression.")
@click.option("--job", "ids", multiple=True, metavar="ID", help="Only the job with this id, as in reports.")
@click.option("--failed", is_flag=True, help="Only jobs that the last run failed or did not reach.")
@click.option("--failed-in", type=click.Path(path_type=Path), metavar="FILE", help="The same, of this result file.")
@click.option("--shard", metavar="I/N", help="Only the I-th of N parts; `harness merge` puts their results together.")
@click.option("--min-jobs", type=click.IntRange(min=1), metavar="N", help="Fail if fewer jobs ran.")
@click.option("--require-device", metavar="NAME", help="Refuse to run but on: cpu, gpu, or a device's name.")
@click.option("-n", "--workers", default="0", help="Worker processes; each loads a model once. `auto`: one a core.")
@click.option("-x", "--exitfirst", is_flag=True, help="Stop at the first job that fails.")
@click.option("--strict", is_flag=True, help="Warnings fail a job.")
@click.option("--snapshot-update", is_flag=True, help="Store the numbers of every job that passes its other checks.")
@click.option("--download", is_flag=True, help="Fetch models that are not on this machine.")
@click.option("--require-models", is_flag=True, help="A job skipped for want of its model fails.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the result here.")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write a JUnit report here.")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Write a report; the suffix chooses: .html, .md, .json, .xml (JUnit).",
)
@click.option("--annotations", is_flag=True, help="Print GitHub annotations that point at the case files.")
@click.option("--results", default="results", show_default=True, help="Folder for candidates and the last result.")
def command(
    paths: tuple[Path, ...], tables: tuple[str, ...], models: tuple[str, ...], engines: tuple[str, ...],
    tags: tuple[str, ...], keyword: str | None, ids: tuple[str, ...], failed: bool, failed_in: Path | None,
    shard: str | None, min_jobs: int | None, require_device: str | None, workers: str, exitfirst: bool,
    strict: bool, snapshot_update: bool, download: bool, require_models: bool, json_file: Path | None,
    junit: Path | None, outputs: tuple[Path, ...], annotations: bool, results: str,
) -> int:  # fmt: skip
    """Run case files and give a verdict.

    PATHS are case files or folders; without any, those of ./cases, or the bundled ones.
    """
    _refuse_workers(workers)
    if shard:
        Shard.parse(shard)
    if failed:
        failed_in = Path(results, LAST)
    wanted = chosen_ids(jobs_of(paths, tables, models, engines, tags), ids, failed_in)
    refuse_other_device(require_device)
    if snapshot_update:
        refuse_installed(paths)
    reports, junit = _sorted_out(outputs, junit)
    for file in (json_file, junit, *reports):
        if file is not None:
            check_writable(file)
    arguments = [
        *_fixed_arguments(),
        *([f"-n{workers}"] if workers != "0" else []),
        *(["-x"] if exitfirst else []),
        *(["-k", keyword] if keyword else []),
        *(["--snapshot-update"] if snapshot_update else []),
        *(["--harness-strict"] if strict else []),
        *(["--harness-download"] if download else []),
        *(["--harness-require-models"] if require_models else []),
        *([f"--harness-json={json_file}"] if json_file else []),
        *([f"--junit-xml={junit}"] if junit else []),
        *([f"--harness-shard={shard}"] if shard else []),
        *([f"--harness-min-jobs={min_jobs}"] if min_jobs else []),
        *(f"--harness-only=job={name}" for name in wanted),
        f"--harness-results={results}",
        *(f"--harness-models={Path(name).resolve()}" for name in tables),
        *(f"--harness-only=model={name}" for name in models),
        *(f"--harness-only=engine={name}" for name in engines),
        *(f"--harness-only=tag={name}" for name in tags),
        *(str(file) for file in case_files(paths)),
    ]
    code, run = _pytest(arguments, strict, Path(results))
    if run is not None:
        for file in reports:
            write(run, file)
        if annotations:
            click.echo(REPORTS["annotations"](run), nl=False)
    return code


def _sorted_out(outputs: tuple[Path, ...], junit: Path | None) -> tuple[list[Path], Path | None]:
    """Return the reports that the result makes, and the JUnit file, which pytest writes. Raises UsageError."""
    xml = [file for file in (junit, *outputs) if file is not None and (file is junit or file.suffix == ".xml")]
    if len(xml) > 1:
        raise UsageError(f"one JUnit file a run: {' and '.join(map(str, xml))} were asked for")
    reports = [file for file in outputs if file.suffix != ".xml"]
    for file in reports:
        kind_of(file)
    return reports, xml[0] if xml else None


def _fixed_arguments() -> list[str]:
    return [
        f"-c{CONFIGURATION}",
        f"--rootdir={Path.cwd()}",
        "--noconftest",
        "--collect-in-virtualenv",
        "-q",
        "--no-header",
        "--no-summary",
        # Whoever compared snapshots before has loaded syrupy already; its asserts are not what a run is about.
        "-Wignore::pytest.PytestAssertRewriteWarning",
        "--tb=no",
        "-pno:cacheprovider",
        "-psyrupy",
        "-pxdist",
        "-pharness.pytest_plugin",
    ]


def _pytest(arguments: list[str], strict: bool, results: Path) -> tuple[int, RunResult | None]:
    import pytest

    from harness.cli import unread_output_dropped
    from harness.reporters.terminal import console, print_run

    # Neither the caller's options nor other people's plugins have a say in a verdict.
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    keeper = _Keeper()
    code = EXIT_INTERRUPTED
    with unread_output_dropped():
        code = int(pytest.main(arguments, plugins=[keeper]))
    run = keeper.run_result
    if run is not None:
        remember(run, results)
        # Whoever stops reading before the end interrupts the run; after it, the verdict stands.
        with unread_output_dropped():
            print_run(run, console(), strict)
    elif code == EXIT_INTERNAL:
        click.echo("harness: pytest reports an internal error, above", err=True)
    return code, run


class _Keeper:
    """Takes the result out of the pytest session before it is gone."""

    run_result: Any = None

    def pytest_unconfigure(self, config: Any) -> None:
        self.run_result = config.pluginmanager.get_plugin("harness-ledger").run_result


def _refuse_workers(text: str) -> None:
    if not (text.isdecimal() or text in ("auto", "logical")):
        raise UsageError(f"-n {text}: expected a number of worker processes, or auto")
