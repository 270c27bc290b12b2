"""`harness diagnose`: where a NaN, an inf or a silent mistake comes from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import completers
from harness.cli.help import Helped
from harness.cli.output import complain
from harness.cli.parameters import (
    OutputFile,
    device_option,
    ids_option,
    json_option,
    old_option,
    refuse_half_of_two,
    whole_numbers,
)
from harness.cli.screen import waiting
from harness.cli.selection import allow_code_option, tables_option
from harness.vocabulary import code_refusal, is_code
from harness.vocabulary.errors import EXIT_FINDINGS, EXIT_PASSED, UsageError
from harness.vocabulary.visible import json_text

if TYPE_CHECKING:
    from harness.diagnosis import Diagnosis

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("diagnose", cls=Helped)
@click.option(
    "-m",
    "--model",
    metavar="MODEL",
    shell_complete=completers.models,
    help="An mlx-lm folder, a model of the tables, or a repository of the hub.",
)
@click.option("--prompt", metavar="TEXT", help="One prompt: why does it print `!!!!`?")
@click.option("--clean", metavar="TEXT", help="The clean prompt of a patching.")
@click.option("--corrupted", metavar="TEXT", help="The corrupted prompt.")
@ids_option
@old_option("--prompt-ids", "--prompt with --ids")
@old_option("--clean-ids", "--clean with --ids")
@old_option("--corrupted-ids", "--corrupted with --ids")
@click.option(
    "--logits",
    nargs=2,
    type=_FILE,
    metavar="CLEAN CORRUPTED",
    help="Two .npy, .npz or .safetensors files.",
)
@click.option(
    "--numbers",
    metavar="FILE",
    help="A pasted table of baselines and recoveries, checked without a model; - is standard input.",
)
@click.option(
    "--answer", metavar="TEXT", help="The token after the prompts, as text: the answer of logit_diff and log_prob."
)
@click.option("--wrong", metavar="TEXT", help="The wrong answer, likewise.")
@old_option("--answer-ids", "--answer and --wrong with --ids")
@click.option(
    "-c",
    "--component",
    metavar="COMPONENT",
    shell_complete=completers.components,
    help="What is patched; mlp_out without it.",
)
@click.option(
    "--metric",
    metavar="METRIC",
    shell_complete=completers.metrics,
    help="l2 without it; or module:function of your own.",
)
@click.option(
    "-e",
    "--engine",
    default="native",
    show_default=True,
    metavar="ENGINE",
    shell_complete=completers.engines,
    help="Whose numbers are asked about: an engine of the harness, mlxterp, or module:function of your own.",
)
@device_option
@allow_code_option
@click.option("--dtype", metavar="DTYPE", help="Cast the model to float32, float16 or bfloat16.")
@click.option("--before", metavar="FOLDER", help="The weights that the model was quantised or cast from.")
@click.option("--compare-compile", is_flag=True, help="Run it compiled and uncompiled too.")
@click.option("--compare-device", metavar="DEVICE", help="Run it on cpu or gpu too.")
@click.option("--lengths", metavar="LOW..HIGH", help="Find the smallest length that fails, such as 1..2048.")
@click.option("--repeat", default=1, show_default=True, metavar="N", help="Run it so often and compare.")
@click.option(
    "--reference",
    metavar="ENGINE",
    shell_complete=completers.engines,
    help="Hold it against transformers, another implementation, too.",
)
@tables_option
@click.option("--download", is_flag=True, help="Fetch the model if it is not on this machine.")
@click.option("--trail", is_flag=True, help="Print every frame of the trail.")
@click.option("-v", "--verbose", is_flag=True, help="Show the whole traceback of an engine that raises.")
@json_option("diagnosis", "Write the diagnosis here; - is standard output.")
@click.option("--plot", "plot_file", type=OutputFile("picture"), help="Draw the trail into this file.")
@click.option("--save-case", "case_file", type=OutputFile("case"), help="Write a case that fails until the remedy.")
def command(**given: Any) -> int:
    """Say where a NaN, an inf or a silent mistake comes from.

    The first place, the cause, and what to do, in a paragraph for an issue. Exit codes: 0 no fault, 1 a fault, 4 a
    request that makes no sense.
    """
    if given["numbers"]:
        return _of_numbers(given)
    given = _by_ids(given)
    from harness.diagnosis import diagnose
    from harness.engines import engine_named
    from harness.results.reports.terminal import console

    if given["plot_file"]:
        from harness.diagnosis.outcome.draw import pyplot

        pyplot()  # matplotlib is there, before the model is loaded
    _refuse_case(given)
    _refuse_metric(given)
    given["answers"] = _answers(given)
    prompts, engine = _prompts(given), engine_named(given["engine"], given["allow_code"])
    with waiting() as line:
        found = diagnose(
            _model(given),
            **prompts,
            **{name: given[name] for name in ("component", "metric", "dtype", "before", "repeat", "reference")},
            **{name: given[name] for name in ("compare_compile", "compare_device", "allow_code")},
            engine=engine,
            answers=given["answers"],
            logits=_arrays(given["logits"]),
            lengths=_range(given["lengths"]),
            progress=line.say,
        )
    found.show(console(), given["trail"])
    for finding in found.findings if given["verbose"] else ():
        if trace := finding.evidence.get("traceback"):
            complain(str(trace))
    _write(found, given, prompts)
    return EXIT_FINDINGS if found.verdict == "fault" else EXIT_PASSED


_WITH_NUMBERS = ("numbers", "metric", "json_file", "engine", "repeat")
"""What may be given beside --numbers, and the options that always hold something."""


def _of_numbers(given: dict[str, Any]) -> int:
    """Check a pasted table: `harness replay` under the name that people look for."""
    from harness.cli.replay_command import printed
    from harness.results.replay import audit, plain, read_tables
    from harness.support.files import write_text

    if others := [name for name, value in given.items() if value and name not in _WITH_NUMBERS]:
        option = others[0].removesuffix("_file").replace("_", "-")
        raise UsageError(f"--numbers is checked without a model; leave out --{option}")
    audits = [audit(table) for table in read_tables(Path(given["numbers"]), metric=given["metric"] or "l2")]
    code = printed(audits)
    if given["json_file"]:
        write_text(given["json_file"], json_text(plain(audits)) + "\n")
        click.echo(f"written: {given['json_file']}")
    click.echo("Where a number comes from: harness diagnose --model MODEL --clean TEXT --corrupted TEXT")
    return code


def _by_ids(given: dict[str, Any]) -> dict[str, Any]:
    """Return what is given with prompts and answers as ids where --ids says so. Raises UsageError for half of two."""
    if not given["ids"]:
        return given
    prompts = {f"{name}_ids": given[name] or given[f"{name}_ids"] for name in _PROMPTS}
    refuse_half_of_two(given)
    answers = [given[name] for name in ("answer", "wrong") if given[name] is not None]
    both = ",".join(answers) if answers else given["answer_ids"]
    return {**given, **dict.fromkeys((*_PROMPTS, "answer", "wrong")), **prompts, "answer_ids": both}


_PROMPTS = ("prompt", "clean", "corrupted")


def _answers(given: dict[str, Any]) -> tuple[str, str] | tuple[int, ...] | None:
    refuse_half_of_two(given)
    texts = given["answer"], given["wrong"]
    if given["answer_ids"] is None:
        return None if texts[0] is None else texts
    ids = whole_numbers(given["answer_ids"], "--answer and --wrong", "711,126")
    if texts[0] is not None:
        raise UsageError("give --answer and --wrong as text or as ids, and not both")
    if len(ids) != 2:
        raise UsageError(f"--answer and --wrong: {given['answer_ids']!r} is not two ids, one for each")
    return ids


def _refuse_metric(given: dict[str, Any]) -> None:
    if given["metric"] and is_code(given["metric"]) and not given["allow_code"]:
        raise UsageError(code_refusal("metric", given["metric"]))


def _refuse_case(given: dict[str, Any]) -> None:
    file: Path | None = given["case_file"]
    if file and not file.name.endswith(".case.yaml"):
        raise UsageError(f"{file}: a case file's name ends in .case.yaml")
    if file and given["model"] is None:
        raise UsageError("--save-case needs a model; two arrays alone make no case")


def _prompts(given: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name in _PROMPTS:
        text, ids = given[name], given[f"{name}_ids"]
        if text is not None and ids is not None:
            raise UsageError(f"give --{name} as text or as ids, and not both")
        found[name] = text if ids is None else whole_numbers(ids, f"--{name}", "1,2,3")
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
