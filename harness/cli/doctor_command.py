"""`harness doctor`: is this machine fit to judge?"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import click

from harness.cli import completers
from harness.cli.help import Helped
from harness.cli.output import complain, put_json
from harness.cli.parameters import OutputFile, device_option, printed_json_option
from harness.vocabulary import MachineReport
from harness.vocabulary.errors import EXIT_FINDINGS, EXIT_PASSED, UnknownName, UsageError


@click.command("doctor", cls=Helped)
@click.option(
    "-m",
    "--model",
    metavar="MODEL",
    shell_complete=completers.models,
    help="A folder or a model: is its config.json read?",
)
@device_option
@click.option("--report", type=OutputFile("result"), help="Run the bundled cases too, and write it all to this file.")
@click.option("--clear-proofs", is_flag=True, help="Forget every proof of a walk that is remembered; look at no more.")
@printed_json_option
def command(model: str | None, report: Path | None, clear_proofs: bool, json_file: Path | None) -> int:
    """Show versions and device, and test what numbers rest on here.

    That is: the detectors of values that are not finite, the metrics, and float32 products.
    With --model, also say which keys of its config.json mlx-lm ignores. With --report, also run the bundled cases and
    write one result file, which holds how far each dtype drifts from the stored numbers and what a walk saves; `harness
    compare` reads it.
    """
    from harness.environment.doctor import examine

    if clear_proofs:
        return _clear_proofs()
    if report and json_file:
        raise UsageError("--report FILE is JSON already; leave --json out")
    machine = examine(_folder(model) if model else None)
    if json_file:
        put_json({"fit": machine.fit, **asdict(machine)}, json_file)
    else:
        _show(machine)
    code = _run_bundled(machine, report) if report else EXIT_PASSED
    return code if machine.fit else code or EXIT_FINDINGS


def _clear_proofs() -> int:
    from harness.patching import remembered

    try:
        count = remembered.clear()
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from error
    click.echo(f"remembered proofs forgotten: {count}, in {remembered.folder()}")
    return EXIT_PASSED


def _show(machine: MachineReport) -> None:
    for name, value in machine.facts.items():
        click.echo(f"{name:<22} {value}")
    for probe in machine.probes:
        click.echo(f"{probe.name:<22} {'ok' if probe.passed else 'FAILED'}: {probe.detail}")
    for note in machine.notes:
        click.echo(f"note: {note}")


def _run_bundled(machine: MachineReport, report: Path) -> int:
    """Run the bundled cases and write their result with what it says of the machine; return the run's exit code."""
    from harness.cli.run_command import RunOptions, run_jobs
    from harness.jobs.choosing import planned_jobs
    from harness.jobs.machine import drift, speeds
    from harness.jobs.selection import Selection
    from harness.results.json import read, write
    from harness.support.configuration import BUNDLED

    selection = Selection(paths=(Path(BUNDLED),))
    jobs = planned_jobs(selection)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "run.json")
        code = run_jobs(selection, jobs, jobs, RunOptions(json_file=file, results=folder, quiet=True))
        if not file.exists():
            complain(f"the bundled cases ended without a result; {report} is not written")
            return code
        run = read(file)
    machine = replace(machine, drift=drift(jobs, run), speeds=speeds(run.jobs))
    write(replace(run, machine=machine), report)
    for each in machine.drift:
        click.echo(
            f"{each.dtype}: {each.jobs} jobs against {each.against}, recoveries within {each.points:.2g} points, "
            f"baselines within {each.relative:.2g}, {100 * each.used:.0f} % of the tolerance"
        )
    for speed in machine.speeds:
        click.echo(f"{speed.case} on {speed.model}: {speed.walk_s:g} s in one walk, {speed.stepwise_s:g} s stepwise")
    click.echo(f"written to {report}")
    return code


def _folder(name: str) -> Path:
    from harness.models import bundled, folder_of
    from harness.models.sources.folder import problem

    folder: Path | None = Path(name).expanduser()
    if not Path(name).expanduser().is_dir():
        table = bundled()
        if name not in table:
            raise UnknownName("folder or model", name, table)
        folder = folder_of(table[name])
    if folder is None:
        raise UsageError(f"{name} has no config.json here: it is made in memory, or not fetched")
    if reason := problem(folder):
        raise UsageError(reason)
    return folder
