"""`harness patch`: one sweep, without a case file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import completers
from harness.cli.parameters import OutputFile
from harness.cli.selection import allow_code_option, configured, tables_option
from harness.vocabulary import bytes_of
from harness.vocabulary.errors import UsageError, suggest

if TYPE_CHECKING:
    from harness.casefile import Prompts

_TIE = 0.05
"""Points within which two recoveries are tied in a ranking: what a case counts as equal unless it says otherwise."""


@click.command("patch")
@click.option(
    "-m",
    "--model",
    "name",
    required=True,
    shell_complete=completers.models,
    help="A model of the tables, or an mlx-lm folder.",
)
@click.option("--clean", required=True, help="The clean prompt: text, or token ids such as 1,5,6 with --ids.")
@click.option("--corrupted", required=True, help="The corrupted prompt.")
@click.option("--ids", is_flag=True, help="The prompts are token ids.")
@click.option("--chat", is_flag=True, help="The prompts are a user's messages, for the tokenizer's chat template.")
@click.option("--no-special-tokens", is_flag=True, help="The tokenizer adds nothing to the prompts, such as BOS.")
@click.option(
    "-c",
    "--component",
    "components",
    multiple=True,
    default=("mlp_out",),
    show_default=True,
    shell_complete=completers.components,
)
@click.option(
    "--metric", "metrics", multiple=True, default=("l2",), show_default=True, shell_complete=completers.metrics
)
@click.option("--layers", help="Layer numbers such as 0,5,-1; all without it.")
@click.option("--direction", default="denoising", show_default=True, help="denoising or noising.")
@click.option("--positions", default="all", show_default=True, help="all, last, each, or token positions such as 0,3.")
@click.option("--strategy", default="auto", show_default=True, help="auto, one-pass or stepwise.")
@click.option("--memory", help="What a walk over the layers may take above the weights, as in 2GB.")
@click.option("--answer", help="The token after the prompts, as text: the answer of logit_diff and log_prob.")
@click.option("--wrong", help="The wrong answer, likewise.")
@click.option("--first-token", is_flag=True, help="Of answers of several tokens, take the first.")
@click.option("-e", "--engine", default="native", show_default=True, shell_complete=completers.engines)
@allow_code_option
@tables_option
@click.option("--download", is_flag=True, help="Fetch the model if it is not on this machine.")
@click.option("--plot", type=OutputFile("picture"), help="Draw the recoveries into this file.")
@configured
def command(**given: Any) -> None:
    """Run one sweep and print its table."""
    from harness.cli.screen import waiting
    from harness.engines import answer, engine_named
    from harness.models.remarks import remarks
    from harness.patching import forecast
    from harness.results.reports.terminal import console
    from harness.vocabulary import code_refusal, is_code, prediction
    from harness.vocabulary.errors import UnknownName
    from harness.vocabulary.raised import SweepFailed, SweepInterrupted

    engine = engine_named(given["engine"], given["allow_code"])
    for metric in given["metrics"]:
        if is_code(metric) and not given["allow_code"]:
            raise UsageError(code_refusal("metric", metric))
        if not engine.knows(metric):
            raise UnknownName(f"metric of {engine.name}", metric, engine.metrics)
    if given["plot"]:
        from harness.results.plots import colours, draw

        colours("RdBu_r")  # matplotlib is there, before the model is loaded
    memory, prompts = _amount(given["memory"]), _prompts(given)
    with waiting():
        model = _load(given["name"], given["tables"], given["download"], given["allow_code"])
    question = _question(model, prompts, given, memory)
    for remark in remarks(model, prompts, question):
        click.echo(f"harness: {remark}", err=True)
    if large := prediction(forecast(model, question)):
        click.echo(f"harness: {large}", err=True)
    try:
        with waiting():
            result = answer(engine, model, question)
    except (SweepFailed, SweepInterrupted) as stop:
        _show(stop.answer, console())
        click.echo(f"PARTIAL, {stop}", err=True)
        raise
    _show(result, console())
    if given["plot"]:
        draw(result.curves, file=given["plot"], title=f"{given['name']}, {given['direction']}")
        click.echo(f"drawn: {given['plot']}")


def _show(result: Any, screen: Any) -> None:
    screen.print(_table(result.curves))
    _print_findings(result.curves)
    _print_concordances(result.curves)
    click.echo(_how(result))


def _amount(text: str | None) -> int | None:
    try:
        return None if text is None else bytes_of(text)
    except ValueError as error:
        raise UsageError(f"--memory: {error}") from error


def _load(name: str, tables: tuple[str, ...], download: bool, allow_code: bool) -> Any:
    from harness.models import load, load_table
    from harness.models.spec import PathRow
    from harness.support.progress import say

    table = load_table(Path(each) for each in tables)
    say(f"loading {name}")
    if name in table:
        return load(table[name], download=download, allow_code=allow_code)
    if Path(name).is_dir():
        return load(PathRow(id="folder", source="path", path=str(Path(name).resolve())))
    raise UsageError(f"{name!r} is neither a model nor a folder; {suggest(name, table)}")


def _prompts(given: dict[str, Any]) -> Prompts:
    """Return what the options say of the prompts. Raises UsageError for options that exclude each other."""
    from harness.casefile import Conversation, LongAnswer, Prompts, Turn

    if (given["answer"] is None) != (given["wrong"] is None):
        raise UsageError("--answer and --wrong come together")
    if given["first_token"] and given["answer"] is None:
        raise UsageError("--first-token needs --answer and --wrong")
    if sum(given[name] for name in ("ids", "chat", "no_special_tokens")) > 1:
        raise UsageError("--ids, --chat and --no-special-tokens exclude each other")

    def prompt(name: str) -> Any:
        text = given[name]
        if given["ids"]:
            return _numbers(text, "prompt")
        return Conversation(messages=(Turn(role="user", content=text),)) if given["chat"] else text

    def answer(text: str | None) -> Any:
        return LongAnswer(text=text, token="first") if given["first_token"] and text else text

    return Prompts.model_construct(
        clean=prompt("clean"),
        corrupted=prompt("corrupted"),
        answer=answer(given["answer"]),
        wrong=answer(given["wrong"]),
        special_tokens=not given["no_special_tokens"],
    )


def _question(model: Any, prompts: Prompts, given: dict[str, Any], memory: int | None) -> Any:
    from harness.models.tokens import read_prompts
    from harness.vocabulary import Direction, Question, Sweep
    from harness.vocabulary.errors import UnknownName

    if given["direction"] not in list(Direction):
        raise UnknownName("direction", given["direction"], list(Direction))
    positions = given["positions"]
    names = {name: f"--{name}" for name in ("clean", "corrupted", "answer", "wrong")}
    clean, corrupted, answers = read_prompts(model, prompts, names)
    return Question(
        clean,
        corrupted,
        sweep=Sweep(
            tuple(given["components"]),
            None if given["layers"] is None else _numbers(given["layers"], "--layers"),
            Direction(given["direction"]),
            positions if positions in ("all", "last", "each") else _numbers(positions, "--positions"),
            given["strategy"],
            memory,
        ),
        metrics=tuple(given["metrics"]),
        answers=answers,
    )


def _numbers(text: str, name: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{name}: {text!r} is not a list of whole numbers such as 0,5,-1") from error


def _how(result: Any) -> str:
    return f"{result.strategy}, because one-pass cannot: {result.fallback}" if result.fallback else str(result.strategy)


def _table(curves: Any) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="recovery (%)", title_justify="left")
    table.add_column("layer", justify="right")
    grid = any(curve.is_grid for curve in curves)
    if grid:
        table.add_column("head" if any(curve.component == "z" for curve in curves) else "position", justify="right")
    for curve in curves:
        table.add_column(f"{curve.component}\n{curve.metric}", justify="right")
    cells = [{(cell.layer, cell.head, cell.position): cell for cell in curve.cells} for curve in curves]
    by_position = len({place[2] for each in cells for place in each}) > 1
    for place in dict.fromkeys(place for each in cells for place in each):
        layer, head, position = place
        within = [".".join(map(str, [head] * (head is not None) + [position] * by_position))] if grid else []
        # A sweep that ended early lacks cells.
        shown = (each[place].recovery.text(".1f") if place in each else "" for each in cells)
        table.add_row(str(layer), *within, *shown)
    table.add_section()
    table.add_row("baseline", *([""] if grid else []), *(curve.baseline.text(".6g") for curve in curves))
    return table


def _print_concordances(curves: Any) -> None:
    from harness.results.ranks import concordances

    for each in concordances(curves, _TIE):
        if each.layers:
            apart = f"Kendall's tau {each.tau:.2f}, most apart at layers {', '.join(map(str, each.layers))}"
            click.echo(f"{each.component}: {' and '.join(each.metrics)} rank the cells differently: {apart}")


def _print_findings(curves: Any) -> None:
    for curve in curves:
        if curve.baseline.state is not curve.oracle_baseline.state:
            said, true = curve.baseline.text(".6g"), curve.oracle_baseline.text(".6g")
            click.echo(f"{curve.metric}: this engine's baseline is {said}; float64 on the same logits gives {true}")
