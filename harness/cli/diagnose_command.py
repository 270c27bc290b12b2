"""`harness diagnose`: where a NaN, an inf or a silent mistake comes from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import completers
from harness.cli.output import complain
from harness.cli.parameters import OutputFile, whole_numbers
from harness.cli.selection import allow_code_option
from harness.vocabulary.errors import EXIT_FINDINGS, EXIT_PASSED, UsageError
from harness.vocabulary.visible import json_text, visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.diagnosis import Diagnosis

_FILE = click.Path(dir_okay=False, path_type=Path)
_SHOWN = 12
"""Frames of the trail that are printed around the first fault; --json has all."""


@click.command("diagnose")
@click.option("-m", "--model", help="An mlx-lm folder, a model of the tables, or a repository of the hub.")
@click.option("--prompt", help="One prompt: why does it print `!!!!`?")
@click.option("--clean", help="The clean prompt of a patching.")
@click.option("--corrupted", help="The corrupted prompt.")
@click.option("--prompt-ids", metavar="IDS", help="Token ids such as 1,2,3 in place of --prompt.")
@click.option("--clean-ids", metavar="IDS", help="Token ids in place of --clean.")
@click.option("--corrupted-ids", metavar="IDS", help="Token ids in place of --corrupted.")
@click.option(
    "--logits",
    nargs=2,
    type=_FILE,
    metavar="CLEAN CORRUPTED",
    help="Two .npy, .npz or .safetensors files.",
)
@click.option("-c", "--component", help="What is patched; mlp_out without it.")
@click.option("--metric", help="l2 without it.")
@click.option(
    "-e",
    "--engine",
    default="native",
    show_default=True,
    shell_complete=completers.engines,
    help="Whose numbers are asked about: an engine of the harness, mlxterp, or module:function of your own.",
)
@allow_code_option
@click.option("--dtype", help="Cast the model to float32, float16 or bfloat16.")
@click.option("--before", metavar="FOLDER", help="The weights that the model was quantised or cast from.")
@click.option("--compare-compile", is_flag=True, help="Run it compiled and uncompiled too.")
@click.option("--compare-device", metavar="DEVICE", help="Run it on cpu or gpu too.")
@click.option("--lengths", metavar="LOW..HIGH", help="Find the smallest length that fails, such as 1..2048.")
@click.option("--repeat", default=1, show_default=True, help="Run it so often and compare.")
@click.option("--reference", metavar="ENGINE", help="Hold it against transformers, another implementation, too.")
@click.option("--models", "tables", multiple=True, metavar="FILE", help="A model table beside the bundled one.")
@click.option("--download", is_flag=True, help="Fetch the model if it is not on this machine.")
@click.option("--trail", is_flag=True, help="Print every frame of the trail.")
@click.option("-v", "--verbose", is_flag=True, help="Show the whole traceback of an engine that raises.")
@click.option("--json", "json_file", type=OutputFile("diagnosis"), help="Write the diagnosis here.")
@click.option("--plot", "plot_file", type=OutputFile("picture"), help="Draw the trail into this file.")
@click.option("--save-case", "case_file", type=OutputFile("case"), help="Write a case that fails until the remedy.")
def command(**given: Any) -> int:
    """Say where a NaN, an inf or a silent mistake comes from.

    The first place, the cause, and what to do, in a paragraph for an issue. Exit codes: 0 no fault, 1 a fault, 4 a
    request that makes no sense.
    """
    from harness.diagnosis import diagnose
    from harness.engines import engine_named

    if given["plot_file"]:
        from harness.diagnosis.outcome.draw import pyplot

        pyplot()  # matplotlib is there, before the model is loaded
    _refuse_case(given)
    prompts, engine = _prompts(given), engine_named(given["engine"], given["allow_code"])
    with _progress() as progress:
        found = diagnose(
            _model(given),
            **prompts,
            **{name: given[name] for name in ("component", "metric", "dtype", "before", "repeat", "reference")},
            **{name: given[name] for name in ("compare_compile", "compare_device")},
            engine=engine,
            logits=_arrays(given["logits"]),
            lengths=_range(given["lengths"]),
            progress=progress,
        )
    _print(found, given["trail"])
    for finding in found.findings if given["verbose"] else ():
        if trace := finding.evidence.get("traceback"):
            complain(str(trace))
    _write(found, given, prompts)
    return EXIT_FINDINGS if found.verdict == "fault" else EXIT_PASSED


def _refuse_case(given: dict[str, Any]) -> None:
    file: Path | None = given["case_file"]
    if file and not file.name.endswith(".case.yaml"):
        raise UsageError(f"{file}: a case file's name ends in .case.yaml")
    if file and given["model"] is None:
        raise UsageError("--save-case needs a model; two arrays alone make no case")


def _prompts(given: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name in ("prompt", "clean", "corrupted"):
        text, ids = given[name], given[f"{name}_ids"]
        if text is not None and ids is not None:
            raise UsageError(f"give --{name} or --{name}-ids, and not both")
        found[name] = text if ids is None else whole_numbers(ids, f"--{name}-ids", "1,2,3")
    return found


def _range(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    low, dots, high = text.partition("..")
    try:
        return int(low), int(high if dots else low)
    except ValueError as error:
        raise UsageError(f"--lengths: {text!r} is not a range such as 1..2048") from error


def _arrays(files: Sequence[Path] | None) -> tuple[Any, Any] | None:
    if not files:
        return None
    from harness.diagnosis.engine.arrays import read_logits

    return read_logits(files[0], "clean"), read_logits(files[1], "corrupted")


def _model(given: dict[str, Any]) -> Any:
    """Return what `diagnose` takes: a name it knows, or a model loaded from the caller's own table."""
    name = given["model"]
    if name is None or (not given["tables"] and not given["download"]):
        return name
    from harness.models import load, load_table

    table = load_table(Path(each) for each in given["tables"])
    if name not in table:
        return name
    return load(table[name], download=given["download"], allow_code=given["allow_code"])


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on the terminal while large weights are read, and nothing elsewhere."""
    from rich.progress import Progress

    from harness.results.reports.terminal import console

    screen = console(sys.stderr)
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        yield progress


def _print(found: Diagnosis, whole: bool) -> None:
    from rich import box
    from rich.table import Table

    from harness.results.reports.terminal import console

    screen = console()
    click.echo(found.paragraph)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("rung", "state", "what was seen"):
        table.add_column(name, overflow="fold")
    for step in found.steps:
        table.add_row(step.name, step.state, step.summary)
    screen.print(table, markup=False)
    for each in found.findings:
        fault = f" {each.fault}" if each.fault else ""
        click.echo(visible(f"{each.code}{fault} {each.severity.value}, {each.confidence}: {each.message}"))
    frames = _frames(found, whole)
    if frames:
        screen.print(_trail(frames), markup=False)


def _frames(found: Diagnosis, whole: bool) -> list[Any]:
    """The frames before the first fault, and the first few after it."""
    if whole:
        return list(found.trail)
    first = next((i for i, frame in enumerate(found.trail) if frame.flow == "APPEARS"), None)
    return [] if first is None else list(found.trail[max(0, first - _SHOWN) : first + 4])


def _trail(frames: Sequence[Any]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="trail, in the order of execution", title_justify="left")
    for name in ("run", "module", "dtype", "shape", "absmax", "headroom", "nan", "+inf", "-inf", "first", "flow"):
        table.add_column(name, overflow="fold", justify="right" if name in ("absmax", "headroom", "nan") else "left")
    for frame in frames:
        between = f" ({frame.between})" if frame.between else ""
        table.add_row(
            frame.run,
            (frame.module or "the model") + between,
            frame.dtype,
            "x".join(map(str, frame.shape)),
            "" if frame.absmax is None else f"{frame.absmax:.4g}",
            "" if frame.headroom is None else f"{frame.headroom:.3g}",
            *(f"{count:,}" if count else "" for count in (frame.nan, frame.pos_inf, frame.neg_inf)),
            "" if frame.first is None else str(frame.first),
            frame.flow,
        )
    return table


def _write(found: Diagnosis, given: dict[str, Any], prompts: dict[str, Any]) -> None:
    from harness.cli.diagnosed_case import save
    from harness.support.files import write_text

    if given["json_file"]:
        write_text(given["json_file"], json_text(found.to_dict()) + "\n")
        click.echo(f"written: {given['json_file']}")
    if given["plot_file"]:
        from harness.diagnosis.outcome.draw import draw

        draw(found, given["plot_file"])
        click.echo(f"drawn: {given['plot_file']}")
    if given["case_file"]:
        click.echo(save(found, given, prompts))
