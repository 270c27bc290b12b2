"""`harness show`: a case resolved, before anything is run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import completers
from harness.cli.help import Helped
from harness.cli.output import put_json
from harness.cli.parameters import device_option, printed_json_option
from harness.cli.selection import selection_options
from harness.jobs.selection import Selection
from harness.vocabulary.errors import UnknownName

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from harness.jobs.planning import Job

Resolved = Mapping[str, Any]


@click.command("show", cls=Helped)
@click.argument("case", shell_complete=completers.cases)
@selection_options("models", "engines", "tables")
@device_option
@printed_json_option
def command(case: str, selection: Selection, json_file: Path | None) -> None:
    """Show a case resolved: jobs, tokens, sites, snapshots.

    CASE is a case file, or the id of a case of ./cases or of the bundled ones (also as bundled:ID), or of one of its
    variants. Models that are on this machine are loaded, no code of yours is imported, and nothing is run. JSON is a
    list, of one case or of every variant.
    """
    from harness.cli.screen import waiting
    from harness.jobs.planning import unseen
    from harness.jobs.preview import resolved
    from harness.results.reports.terminal import console

    jobs = _jobs_of(case, selection)
    variants = dict.fromkeys(job.case.id for job in jobs)
    with waiting():
        found = [resolved([job for job in jobs if job.case.id == variant]) for variant in variants]
    if json_file:
        put_json(found, json_file)
    else:
        for each in found:
            _print(each, console())
        for line in unseen(jobs):
            click.echo(line)


def _jobs_of(case: str, selection: Selection) -> list[Job]:
    """Return the jobs of a case given by path or by id. Raises UnknownName with the nearest id."""
    from harness.jobs.case_files import case_files, has_own_cases
    from harness.jobs.choosing import jobs_of
    from harness.support.configuration import BUNDLED, is_bundled

    if case.endswith(".case.yaml") or Path(case).exists() or is_bundled(case):
        return jobs_of(replace(selection, paths=(Path(case),)), looking=True)
    # A look at a bundled case is no verdict: it needs no permission of the project around.
    selection = replace(selection, paths=() if has_own_cases() else (Path(BUNDLED),))
    files = {file.name.removesuffix(".case.yaml"): file for file in case_files(selection.paths)}
    if case in files:
        return jobs_of(replace(selection, paths=(files[case],)), looking=True)
    jobs = jobs_of(selection, looking=True)
    found = [job for job in jobs if job.case.id == case or job.case.id.startswith(f"{case}.")]
    if not found:
        raise UnknownName("case", case, {*files, *(job.case.id for job in jobs)})
    return found


def _print(case: Resolved, screen: Console) -> None:
    from rich.text import Text

    screen.print(Text(f"{case['id']}  {case['file']}", style="bold"))
    if case["about"]:
        screen.print(Text(case["about"]))
    for name, value in _summary(case):
        screen.print(Text(f"{name:<10} ", style="bold") + Text(value))
    screen.print(_jobs(case["jobs"]))
    for model in case["models"]:
        _print_model(model, screen)


def _summary(case: Resolved) -> Iterator[tuple[str, str]]:
    sweep, tolerance = case["sweep"], case["tolerance"]
    if case["tags"]:
        yield "tags", " ".join(case["tags"])
    yield (
        "sweep",
        f"{sweep['direction']}; layers {sweep['layers']}; positions {sweep['positions']}; {sweep['strategy']}"
        + ("" if sweep["value"] == "other" else f"; puts in {sweep['value']}"),
    )
    yield "components", " ".join(sweep["components"])
    yield "metrics", ", ".join(f"{name} ({unit})" for name, unit in case["metrics"].items())
    yield "checks", " ".join(case["checks"])
    yield "tolerance", ", ".join(f"{name} {value:g}" for name, value in tolerance.items() if _is_number(value))
    for what, stated in case["expect"].items():
        for each in stated if isinstance(stated, list) else [stated]:
            yield "expects", f"{what}: {_flat(each)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flat(stated: Any) -> str:
    if isinstance(stated, dict):
        return ", ".join(f"{name} {_flat(value)}" for name, value in stated.items() if value is not None)
    return " ".join(map(_flat, stated)) if isinstance(stated, list) else str(stated)


def _jobs(jobs: Sequence[Resolved]) -> Table:
    from rich.text import Text

    table = _table("job", "metrics", "must find", "snapshot")
    for job in jobs:
        snapshot = f"{job['snapshot']} {'stored' if job['stored'] else 'missing'}" if job["snapshot"] else "none"
        table.add_row(Text(job["id"]), " ".join(job["metrics"]), " ".join(job["must_find"]), Text(_near(snapshot)))
    return table


def _near(text: str) -> str:
    return text.removeprefix(f"{Path.cwd()}/")


def _print_model(model: Resolved, screen: Console) -> None:
    from rich.text import Text

    card = model.get("card")
    about = (
        f": {card['architecture']}, {card['layers']} layers, {card['vocab']:,} tokens, {card['dtype']}" if card else ""
    )
    screen.print(Text(f"{model['id']}{about}", style="bold"))
    if "pairs" in model:
        screen.print(_pairs(model["pairs"]))
        for text, pairs in _remarks(model["pairs"]).items():
            screen.print(Text(f"{', '.join(map(str, pairs))}: {text}", style="yellow"))
    if "tokens" in model:
        screen.print(_tokens(model["tokens"]))
    if "answers" in model:
        answer, wrong = (f"{each['text']!r} {each['id']}" for each in model["answers"].values())
        screen.print(Text(f"answer {answer}, wrong answer {wrong}"))
    for remark in model.get("remarks", ()):
        screen.print(Text(remark, style="yellow"))
    if "sites" in model:
        screen.print(_sites(model["sites"]))
        screen.print(Text(f"{model['cells']} cells"), end="\n\n")
    if "problem" in model:
        screen.print(Text(f"{model['problem']}", style="yellow"), end="\n\n")


def _pairs(pairs: Sequence[Resolved]) -> Table:
    """One row a pair: its length, the positions at which its prompts differ, both prompts, the answers."""
    from rich.text import Text

    table = _table("pair", "tokens", "differ at", "clean", "corrupted", "answer", "wrong answer")
    for number, pair in enumerate(pairs, 1):
        tokens = pair["tokens"]
        differ = ", ".join(str(each["position"]) for each in tokens if each["differs"])
        sides = ["".join(each[side]["text"] for each in tokens if each[side]) for side in ("clean", "corrupted")]
        answers = [f"{each['text']!r} {each['id']}" for each in pair.get("answers", {}).values()] or ["", ""]
        table.add_row(str(number), str(len(tokens)), differ, *map(Text, map(repr, sides)), *map(Text, answers))
    return table


def _remarks(pairs: Sequence[Resolved]) -> dict[str, list[str]]:
    """Return what is odd about the tokens of pairs, each remark with the pairs that it is true of."""
    said: dict[str, list[str]] = {}
    for number, pair in enumerate(pairs, 1):
        for remark in pair["remarks"]:
            said.setdefault(remark, []).append(f"pair {number}")
    return said


def _tokens(tokens: Sequence[Resolved]) -> Table:
    from rich.text import Text

    table = _table("position", "clean", "corrupted", "")
    for each in tokens:
        shown = [f"{side['text']!r} {side['id']}" if side else "" for side in (each["clean"], each["corrupted"])]
        style = "bold yellow" if each["differs"] else None
        table.add_row(str(each["position"]), *map(Text, shown), "differs" if each["differs"] else "", style=style)
    return table


def _sites(sites: Sequence[Resolved]) -> Table:
    """One row for each component and kind of module: blocks of one kind differ in their number only."""
    from rich.text import Text

    from harness.support.ranges import ranges

    table = _table("component", "is the", "of", "layers", "heads")
    alike: dict[tuple[str, str, str], list[Resolved]] = {}
    for site in sites:
        path = re.sub(rf"\.{site['layer']}(?=\.|$)", ".*", f".{site['module']}", count=1).removeprefix(".")
        alike.setdefault((site["component"], site["side"], path), []).append(site)
    for (component, side, path), group in alike.items():
        layers = list(dict.fromkeys(site["layer"] for site in group))
        heads = {site["head"] for site in group if "head" in site}
        table.add_row(Text(component), side, Text(path), ranges(layers), str(len(heads)) if heads else "")
    return table


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table
