"""`harness zoo`: faults planted in small models, and whether `diagnose` names them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.output import complain
from harness.cli.parameters import OutputFile, device_option
from harness.vocabulary.errors import EXIT_FINDINGS, EXIT_PASSED, UnknownName

if TYPE_CHECKING:
    from harness.diagnosis.zoo import PlantedFault
    from harness.diagnosis.zoo.trial import Trial

_only = click.option("--only", multiple=True, metavar="FAULT", help="A fault such as F08; may be repeated.")


@click.group("zoo")
def command() -> None:
    """Plant known faults and see whether `diagnose` names them."""


@command.command("list")
@_only
def list_faults(only: tuple[str, ...]) -> None:
    """Show every fault: what goes wrong, who reported it, and where it is planted."""
    from rich import box
    from rich.table import Table

    from harness.results.reports.terminal import console

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("fault", "what goes wrong", "seen in", "class", "planted in", "a diagnosis must say"):
        table.add_column(name, overflow="fold")
    for fault in _chosen(only):
        planted = ", ".join(fault.architectures)
        table.add_row(fault.id, fault.title, fault.report, fault.kinds, planted, fault.says)
    console().print(table, markup=False)


@command.command("run")
@device_option
@_only
@click.option("--clean", is_flag=True, help="Diagnose the models without a fault too (some minutes).")
@click.option("--json", "json_file", type=OutputFile("zoo"), help="Write what was said of every planting here.")
@click.option("--write", "page_file", type=OutputFile("page"), help="Write zoo and confusion table as Markdown.")
def run_zoo(only: tuple[str, ...], clean: bool, json_file: Path | None, page_file: Path | None) -> int:
    """Plant every fault, diagnose it, and print the confusion table; exit code 1 if anything is named wrongly."""
    from harness.diagnosis.zoo import ZOO, page
    from harness.support.files import write_text
    from harness.vocabulary.visible import json_text

    faults = _chosen(only)
    trials = _trials(faults)
    looked, alarms = _false_alarms() if clean else (0, [])
    _show(faults, trials)
    for said in alarms:
        complain(f"false alarm: {said}")
    if clean:
        click.echo(f"models without a fault: {len(alarms)} of {looked} accused")
    if json_file:
        write_text(json_file, json_text(_document(trials, alarms if clean else None)) + "\n")
    if page_file:
        write_text(page_file, page.markdown({fault.id: ZOO[fault.id] for fault in faults}, trials))
    return EXIT_PASSED if all(trial.right for trial in trials) and not alarms else EXIT_FINDINGS


def _chosen(only: Sequence[str]) -> list[PlantedFault]:
    from harness.diagnosis.zoo import ZOO

    for name in only:
        if name not in ZOO:
            raise UnknownName("fault of the zoo", name, ZOO)
    return [fault for fault in ZOO.values() if not only or fault.id in only]


def _trials(faults: Sequence[PlantedFault]) -> list[Trial]:
    from harness.diagnosis.zoo.trial import attempt

    trials = []
    for fault in faults:
        trials += [attempt(fault, planting) for planting in fault.plantings]
        click.echo(f"{fault.id} {fault.title}", err=True)
    return trials


def _false_alarms() -> tuple[int, list[str]]:
    """Return how many clean models were diagnosed, and what was said against any of them."""
    from harness.diagnosis import diagnose
    from harness.diagnosis.zoo.clean import examine, subjects

    looked, said = 0, []
    for subject in subjects():
        click.echo(subject.name, err=True)
        looked += 1
        said += [alarm] if (alarm := examine(subject, diagnose)) else []
    return looked, said


def _show(faults: Sequence[PlantedFault], trials: Sequence[Trial]) -> None:
    from rich import box
    from rich.table import Table

    from harness.diagnosis.zoo.page import PARTS, scores, total
    from harness.results.reports.terminal import console

    rows = scores(faults, trials)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("fault", "what goes wrong", *PARTS, "wrong on"):
        table.add_column(name, overflow="fold")
    for row in rows:
        wrong = "; ".join(trial.planting.name for trial in row.wrong)
        table.add_row(row.fault.id, row.fault.title, *row.cells(), wrong, style="bold red" if wrong else None)
    table.add_section()
    table.add_row(str(len(rows)), "all of it right", *(f"{total(rows, part)}/{len(rows)}" for part in PARTS), "")
    console().print(table)
    for trial in trials:
        if not trial.right:
            console().print(str(trial), markup=False, highlight=False)


def _document(trials: Sequence[Trial], alarms: Sequence[str] | None) -> dict[str, Any]:
    plantings = [
        {
            "fault": trial.fault, "architecture": trial.planting.architecture, "variant": trial.planting.variant,
            "place": trial.place, "cause": trial.cause, "proven": trial.proven,
            "evidence": trial.evidence, "said": trial.said,
        }
        for trial in trials
    ]  # fmt: skip
    return {"plantings": plantings} | ({} if alarms is None else {"false_alarms": list(alarms)})
