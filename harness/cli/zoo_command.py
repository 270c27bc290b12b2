"""`harness zoo`: faults planted in small models, and whether `diagnose` names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.help import Helped
from harness.cli.output import complain
from harness.cli.parameters import OutputFile, device_option, json_option
from harness.cli.screen import rows_shown
from harness.vocabulary.errors import EXIT_FINDINGS, EXIT_PASSED, UnknownName

if TYPE_CHECKING:
    from harness.diagnosis.zoo import PlantedFault, Planting
    from harness.diagnosis.zoo.clean import CleanModel
    from harness.diagnosis.zoo.trial import Trial

Accused = tuple[int, list[str]]
"""Of how many models without a fault, and what was said against any of them."""

_only = click.option("--only", multiple=True, metavar="FAULT", help="A fault such as F08; may be repeated.")


@click.group("zoo")
def command() -> None:
    """Plant known faults and see whether `diagnose` names them."""


@command.command("list", cls=Helped)
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


@command.command("run", cls=Helped)
@device_option
@_only
@click.option("--clean", is_flag=True, help="Diagnose the models without a fault too (some minutes).")
@click.option("--dtypes", is_flag=True, help="In every dtype of two architectures, beside sound models (15 minutes).")
@json_option("zoo", "Write what was said of every planting here; - is standard output.")
@click.option(
    "-o", "--output", "--write", "page_file", type=OutputFile("page"), help="Write it all as Markdown, with --dtypes."
)
def run_zoo(only: tuple[str, ...], clean: bool, dtypes: bool, json_file: Path | None, page_file: Path | None) -> int:
    """Plant every fault, diagnose it, and print the confusion table; exit code 1 if anything is named wrongly."""
    from harness.cli.zoo_grids import grids
    from harness.diagnosis.zoo import ZOO, page
    from harness.diagnosis.zoo.clean import subjects
    from harness.diagnosis.zoo.dtypes import in_dtypes
    from harness.laws.grid.table import on_screen
    from harness.results.reports.terminal import console
    from harness.support.files import write_text
    from harness.vocabulary.visible import json_text

    faults = _chosen(only)
    trials = _trials(faults, {fault.id: fault.plantings for fault in faults})
    _show(faults, trials)
    looked, alarms = _accused(subjects()) if clean else (0, [])
    if clean:
        _tell(looked, alarms)
    tables = []
    if dtypes or page_file:
        wide = _trials(faults, {fault.id: [*in_dtypes(fault)] for fault in faults})
        accused = _accused_in_dtypes()
        tables = grids(faults, wide, accused)
        for table in tables:
            for part in on_screen([table], table.numbers):
                console().print(part)
        for each in wide:
            if not each.right:
                console().print(str(each), markup=False, highlight=False)
        for count, said in accused.values():
            _tell(count, said)
            alarms += said
        trials += wide
    if json_file:
        write_text(json_file, json_text(_document(trials, alarms if clean or tables else None)) + "\n")
    if page_file:
        chosen = {fault.id: ZOO[fault.id] for fault in faults}
        write_text(page_file, page.markdown(chosen, [each for each in trials if not each.planting.dtype], tables))
    return EXIT_PASSED if all(trial.right for trial in trials) and not alarms else EXIT_FINDINGS


def _chosen(only: Sequence[str]) -> list[PlantedFault]:
    from harness.diagnosis.zoo import ZOO

    for name in only:
        if name not in ZOO:
            raise UnknownName("fault of the zoo", name, ZOO)
    return [fault for fault in ZOO.values() if not only or fault.id in only]


def _trials(faults: Sequence[PlantedFault], plantings: Mapping[str, Iterable[Planting]]) -> list[Trial]:
    from harness.diagnosis.zoo.trial import attempt

    trials = []
    with rows_shown(len(faults)) as line:
        for fault in faults:
            line.begins(f"{fault.id} {fault.title}")
            trials += [attempt(fault, planting) for planting in plantings[fault.id]]
            line.ended(fault.id)
    return trials


def _accused(models: Sequence[CleanModel]) -> Accused:
    """Return how many models without a fault were diagnosed, and what was said against any of them."""
    from harness.diagnosis import diagnose
    from harness.diagnosis.zoo.clean import examine

    said = []
    with rows_shown(len(models)) as line:
        for subject in models:
            line.begins(subject.name)
            said += [alarm] if (alarm := examine(subject, diagnose)) else []
            line.ended(subject.name)
    return len(models), said


def _accused_in_dtypes() -> dict[str, Accused]:
    from harness.diagnosis.zoo.clean import twins
    from harness.diagnosis.zoo.models import DTYPES, built_in

    found = {}
    for dtype in DTYPES:
        with built_in(dtype):
            looked, said = _accused(twins())
        found[dtype] = looked, [f"{dtype}, {each}" for each in said]
    return found


def _tell(looked: int, alarms: Sequence[str]) -> None:
    for said in alarms:
        complain(f"false alarm: {said}")
    click.echo(f"models without a fault: {len(alarms)} of {looked} accused")


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
            "dtype": trial.planting.dtype,
            "place": trial.place, "cause": trial.cause, "proven": trial.proven,
            "evidence": trial.evidence, "said": trial.said,
        }
        for trial in trials
    ]  # fmt: skip
    return {"plantings": plantings} | ({} if alarms is None else {"false_alarms": list(alarms)})
