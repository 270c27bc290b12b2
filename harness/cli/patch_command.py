"""`harness patch`: one sweep, without a case file."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import completers
from harness.cli.help import Helped
from harness.cli.output import complain
from harness.cli.parameters import (
    OutputFile,
    dequantise_option,
    device_option,
    ids_option,
    refuse_half_of_two,
    whole_numbers,
)
from harness.cli.selection import allow_code_option, configured, tables_option
from harness.vocabulary import bytes_of
from harness.vocabulary.errors import EXIT_FINDINGS, EXIT_PASSED, UsageError
from harness.vocabulary.visible import visible

if TYPE_CHECKING:
    from harness.casefile import Prompts
    from harness.vocabulary import Dequantised, Finding, Question, Sweep
    from harness.vocabulary.raised import FindingError

_TIE = 0.05
"""Points within which two recoveries are tied in a ranking: what a case counts as equal unless it says otherwise."""


@click.command("patch", cls=Helped)
@click.option(
    "-m",
    "--model",
    "name",
    required=True,
    metavar="MODEL",
    shell_complete=completers.models,
    help="A model of the tables, an mlx-lm folder, or a repository of the hub.",
)
@click.option("--clean", metavar="TEXT", help="The clean prompt, or its token ids with --ids.")
@click.option("--corrupted", metavar="TEXT", help="The corrupted prompt.")
@click.option(
    "--pairs",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Average over the pairs of prompts in a .jsonl or .csv file, in place of --clean and --corrupted.",
)
@ids_option
@click.option("--chat", is_flag=True, help="The prompts are a user's messages, for the tokenizer's chat template.")
@click.option("--no-special-tokens", is_flag=True, help="The tokenizer adds nothing to the prompts, such as BOS.")
@click.option(
    "-c",
    "--component",
    "components",
    multiple=True,
    default=("mlp_out",),
    show_default=True,
    metavar="COMPONENT",
    shell_complete=completers.components,
)
@click.option(
    "--metric", "metrics", multiple=True, default=("l2",), show_default=True, metavar="METRIC",
    shell_complete=completers.metrics,
)  # fmt: skip
@click.option("--layers", metavar="LAYERS", help="Layer numbers such as 0,5,-1; all without it.")
@click.option("--direction", default="denoising", show_default=True, metavar="denoising|noising")
@click.option(
    "--positions",
    default="all",
    show_default=True,
    metavar="POSITIONS",
    help="all, last, each, or token positions such as 0,3.",
)
@click.option(
    "--value",
    default="other",
    show_default=True,
    metavar="other|zero|mean",
    help="What is put in: the other run's activation, zeros, or the mean over the tokens of --mean-of.",
)
@click.option("--mean-of", multiple=True, metavar="TEXT", help="A prompt that the mean is over; give several.")
@click.option("--strategy", default="auto", show_default=True, metavar="auto|one-pass|stepwise")
@click.option("--memory", metavar="SIZE", help="What a walk over the layers may take above the weights, as in 2GB.")
@click.option("--prove", is_flag=True, help="Prove the walk anew; rely on no proof that is remembered.")
@dequantise_option
@click.option(
    "--answer", metavar="TEXT", help="The token after the prompts, as text: the answer of logit_diff and log_prob."
)
@click.option("--wrong", metavar="TEXT", help="The wrong answer, likewise.")
@click.option("--first-token", is_flag=True, help="Of answers of several tokens, take the first.")
@click.option(
    "-e", "--engine", default="native", show_default=True, metavar="ENGINE", shell_complete=completers.engines
)
@device_option
@allow_code_option
@tables_option
@click.option("--download", is_flag=True, help="Fetch the model if it is not on this machine.")
@click.option(
    "-o", "--output", "--plot", "plot", type=OutputFile("picture"), help="Draw the recoveries into this file."
)
@click.option("-v", "--verbose", is_flag=True, help="Show the whole traceback of an engine that raises.")
@configured
def command(**given: Any) -> int:
    """Run one sweep and print its table.

    Exit codes: 0 recoveries, 1 a finding: a metric has none, or something is not finite; 4 wrong usage.
    """
    from harness.cli.screen import waiting
    from harness.models.remarks import remarks
    from harness.patching import forecast
    from harness.vocabulary import prediction

    engine = _engine(given)
    if given["plot"]:
        from harness.results.axes import axis_tokens
        from harness.results.plots import colours, draw

        colours("RdBu_r")  # matplotlib is there, before the model is loaded
    sweep, prompts = _sweep(given), _pairs(given)
    with waiting():
        model = _load(given["name"], given["tables"], given["download"], given["allow_code"])
    questions = _questions(model, prompts, sweep, given)
    for remark in _of_each([remarks(model, *each) for each in zip(prompts, questions, strict=True)], given):
        complain(str(remark))
    if large := prediction(forecast(model, max(questions, key=lambda each: len(each.clean.ids)))):
        complain(str(large))
    chosen = _choice(engine, model, given)
    answers = [_answered(engine, chosen, question, given, number) for number, question in enumerate(questions, 1)]
    code = _show(questions, answers, given)
    if given["plot"]:
        tokens = () if given["pairs"] else axis_tokens(questions[0].clean, questions[0].corrupted)
        curves = _mean(answers, given).curves
        draw(curves, file=given["plot"], title=f"{given['name']}, {given['direction']}", tokens=tokens)
        click.echo(f"drawn: {given['plot']}")
    return code


def _engine(given: dict[str, Any]) -> Any:
    """Return the engine, which has every metric that is asked for. Raises UnknownName, UsageError."""
    from harness.engines import engine_named
    from harness.vocabulary import code_refusal, is_code
    from harness.vocabulary.errors import UnknownName

    engine = engine_named(given["engine"], given["allow_code"])
    for metric in given["metrics"]:
        if is_code(metric) and not given["allow_code"]:
            raise UsageError(code_refusal("metric", metric))
        if not engine.knows(metric):
            raise UnknownName(f"metric of {engine.name}", metric, engine.metrics)
    return engine


def _answered(
    engine: Any, chosen: Callable[[Question], tuple[Any, Dequantised | None]], question: Question,
    given: dict[str, Any], number: int,
) -> Any:  # fmt: skip
    """Return the answer to one pair. Raises FindingError for what an engine or a model raises, with the pair's number
    where there are several, and shows the cells before it."""
    from harness.cli.screen import waiting
    from harness.engines import answer
    from harness.engines.dequantised import saying
    from harness.patching.remembered import trusting
    from harness.vocabulary.raised import SweepFailed, SweepInterrupted

    try:
        with waiting(), trusting(anew=given["prove"]):
            swept, said = chosen(question)
            return saying(said, lambda: answer(engine, swept, question))
    except (SweepFailed, SweepInterrupted) as stop:
        whose = f"pair {number}, " if given["pairs"] else ""
        _show([question], [stop.answer], {**given, "pairs": None})
        click.echo(f"PARTIAL, {whose}{stop}", err=True)
        if isinstance(stop, SweepInterrupted):
            raise
        raise _finding(stop.__cause__ or stop, given, number) from stop
    except Exception as error:
        raise _finding(error, given, number) from error


def _choice(engine: Any, model: Any, given: dict[str, Any]) -> Callable[[Question], tuple[Any, Dequantised | None]]:
    """Return what says which model the sweep of a question runs on, and what to say of its float32 copy."""
    from harness.engines.dequantised import Float32Copy
    from harness.vocabulary import NEVER, is_code

    if given["dequantise"] == NEVER:
        return lambda question: (model, None)
    copy, foreign = Float32Copy(model), any(map(is_code, given["metrics"]))
    return lambda question: copy.chosen(engine, question, foreign)


def _finding(error: BaseException, given: dict[str, Any], number: int) -> FindingError:
    """Return what an engine or a model raised as a finding, after the whole of it where that is asked for."""
    from harness.jobs.run import finding_of
    from harness.vocabulary.raised import FindingError

    finding = finding_of(error)
    if given["verbose"] and (trace := finding.evidence.get("traceback")):
        complain(str(trace))
    return FindingError(_of_each([[]] * (number - 1) + [[finding]], given)[0])


def _of_each(found: Sequence[Sequence[Finding]], given: dict[str, Any]) -> list[Finding]:
    """Return what was found of each pair, named by its pair where there are several."""
    from harness.engines.pairs import said_of_pairs

    return said_of_pairs(found) if given["pairs"] else list(found[0])


def _mean(answers: Sequence[Any], given: dict[str, Any]) -> Any:
    from harness.engines.pairs import over_pairs

    return over_pairs(answers) if given["pairs"] else answers[0]


def _show(questions: Sequence[Question], answers: Sequence[Any], given: dict[str, Any]) -> int:
    """Print a sweep, or the means over several, and what was found of it, and return the exit code."""
    from harness.checks import of_sweep
    from harness.results.axes import axis_tokens
    from harness.results.reports.recoveries import tables
    from harness.results.reports.summary import undefined_pairs
    from harness.results.reports.terminal import console
    from harness.vocabulary import VALUES
    from harness.vocabulary.verdict import fails

    screen, result = console(), _mean(answers, given)
    tokens = () if given["pairs"] else axis_tokens(questions[0].clean, questions[0].corrupted)
    for table in tables(result.curves, tokens, screen.width):
        screen.print(table)
    for undefined in undefined_pairs(result.curves):
        click.echo(f"undefined pairs, which are in no mean: {undefined}")
    _print_concordances(result.curves)
    value = given["value"]
    click.echo(_how(result) + ("" if value == "other" else f"; puts in {VALUES[value]}"))
    for each in result.unanswered:
        click.echo(f"not answered: {visible(str(each))}")
    findings = _of_each([of_sweep(*each) for each in zip(questions, answers, strict=True)], given)
    _print_findings(findings, questions, given)
    return EXIT_FINDINGS if any(map(fails, findings)) else EXIT_PASSED


def _amount(text: str | None) -> int | None:
    try:
        return None if text is None else bytes_of(text)
    except ValueError as error:
        raise UsageError(f"--memory: {error}") from error


def _load(name: str, tables: tuple[str, ...], download: bool, allow_code: bool) -> Any:
    from harness.models import load, load_table, row_named
    from harness.support.progress import say

    row = row_named(name, load_table(Path(each) for each in tables))
    say(f"loading {name}")
    return load(row, download=download, allow_code=allow_code)


_OF_ONE_PAIR = ("clean", "corrupted", "ids", "chat", "no_special_tokens", "answer", "wrong", "first_token")


def _pairs(given: dict[str, Any]) -> tuple[Prompts, ...]:
    """Return the pairs of prompts that the options say, or a file of them. Raises UsageError and CaseFileError."""
    from harness.casefile import load_pairs

    if given["pairs"] is None:
        if lacking := [f"--{name}" for name in ("clean", "corrupted") if given[name] is None]:
            raise UsageError(f"{' and '.join(lacking)} missing; give both prompts, or --pairs and a file of pairs")
        return (_prompts(given),)
    if beside := [f"--{name.replace('_', '-')}" for name in _OF_ONE_PAIR if given[name]]:
        raise UsageError(f"--pairs names a file whose lines say all of each pair; leave out {' and '.join(beside)}")
    return load_pairs(given["pairs"])


def _prompts(given: dict[str, Any]) -> Prompts:
    """Return what the options say of the prompts. Raises UsageError for options that exclude each other."""
    from harness.casefile import LongAnswer, Prompts

    refuse_half_of_two(given)
    if given["first_token"] and given["answer"] is None:
        raise UsageError("--first-token needs --answer and --wrong")
    if sum(given[name] for name in ("ids", "chat", "no_special_tokens")) > 1:
        raise UsageError("--ids, --chat and --no-special-tokens exclude each other; give one")

    def answer(text: str | None) -> Any:
        if given["ids"] and text is not None and text.isdecimal():
            return int(text)
        return LongAnswer(text=text, token="first") if given["first_token"] and text else text

    return Prompts.model_construct(
        clean=_prompt(given["clean"], given),
        corrupted=_prompt(given["corrupted"], given),
        answer=answer(given["answer"]),
        wrong=answer(given["wrong"]),
        special_tokens=not given["no_special_tokens"],
    )


def _prompt(text: str, given: dict[str, Any]) -> Any:
    from harness.casefile import Conversation, Turn

    if given["ids"]:
        return whole_numbers(text, "prompt")
    return Conversation(messages=(Turn(role="user", content=text),)) if given["chat"] else text


def _questions(model: Any, pairs: Sequence[Prompts], sweep: Sweep, given: dict[str, Any]) -> tuple[Question, ...]:
    from harness.engines.paired_questions import misaligned, questions_over
    from harness.models.tokens import read_mean_of, read_prompts
    from harness.vocabulary import Question
    from harness.vocabulary.raised import AlignmentError

    means = [_prompt(text, given) for text in given["mean_of"]]
    mean_of = read_mean_of(model, means, given["value"], "--mean-of", special=pairs[0].special_tokens)
    if given["pairs"]:
        questions = questions_over(model, pairs, sweep, given["metrics"], mean_of)
        if uneven := misaligned(questions):
            raise AlignmentError(uneven[0])
        return questions
    names = {name: f"--{name}" for name in ("clean", "corrupted", "answer", "wrong")}
    clean, corrupted, answers = read_prompts(model, pairs[0], names)
    return (Question(clean, corrupted, sweep, tuple(given["metrics"]), answers, mean_of),)


def _sweep(given: dict[str, Any]) -> Sweep:
    from harness.vocabulary import Direction, Sweep
    from harness.vocabulary.errors import UnknownName

    if given["direction"] not in list(Direction):
        raise UnknownName("direction", given["direction"], list(Direction))
    positions = given["positions"]
    return Sweep(
        tuple(given["components"]),
        None if given["layers"] is None else whole_numbers(given["layers"], "--layers"),
        Direction(given["direction"]),
        positions if positions in ("all", "last", "each") else whole_numbers(positions, "--positions"),
        given["strategy"],
        _amount(given["memory"]),
        given["value"],
    )


def _how(result: Any) -> str:
    proven = f"proven on {result.proven_on}" if result.proven_on else ""
    why = f"because one-pass cannot: {result.fallback}" if result.fallback else proven
    return ", ".join(map(str, filter(None, (result.strategy, why, result.dequantised))))


def _print_concordances(curves: Any) -> None:
    from harness.results.ranks import concordances

    for each in concordances(curves, _TIE):
        if each.layers:
            apart = f"Kendall's tau {each.tau:.2f}, most apart at layers {', '.join(map(str, each.layers))}"
            click.echo(f"{each.component}: {' and '.join(each.metrics)} rank the cells differently: {apart}")


def _print_findings(findings: Sequence[Finding], questions: Sequence[Question], given: dict[str, Any]) -> None:
    """Print what was found and, where `harness diagnose` looks for the cause, the command to type."""
    from harness.results.reports.terminal import finding_text
    from harness.vocabulary.verdict import fails

    for each in findings:
        click.echo(finding_text(each))
        click.echo(f"    {each.hint}")
    if first := next((each for each in findings if fails(each) and each.kind.check != "alignment"), None):
        (pair, *_) = first.evidence.get("pairs", [1])
        click.echo(f"Where it comes from: {_diagnosis(first, questions[pair - 1], given)}")


def _diagnosis(finding: Finding, question: Question, given: dict[str, Any]) -> str:
    """Return the command that diagnoses a finding: the prompts as the ids that were run."""
    component = finding.site.component if finding.site else given["components"][0]
    metric = finding.metric or next(iter(finding.evidence.get("metrics", given["metrics"])))
    words = ["harness", "diagnose", "--model", given["name"]]
    for name, tokens in (("--clean", question.clean), ("--corrupted", question.corrupted)):
        words += [name, ",".join(map(str, tokens.ids))]
    words += ["--component", component, "--metric", metric, "--engine", given["engine"]]
    if question.answers is not None:
        words += ["--answer", str(question.answers.answer), "--wrong", str(question.answers.wrong)]
    words.append("--ids")
    words += [word for table in given["tables"] for word in ("--models", str(table))]
    return shlex.join([*words, *(f"--{name.replace('_', '-')}" for name in ("allow_code", "download") if given[name])])
