"""Types of parameters that several commands have."""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click

from harness.cli.output import complain
from harness.results.reports.outputs import BY_KIND
from harness.support.outputs import check_output
from harness.vocabulary.dequantised import DEQUANTISE, NEVER
from harness.vocabulary.errors import UsageError

Command = Callable[..., Any]


STANDARD_OUTPUT = Path("-")


def old_option(spelling: str, instead: str, **settings: Any) -> Callable[[Command], Command]:
    """Take an option that had another spelling once: it is in no help, and its use is noted."""

    def note(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if value is not None and not context.resilient_parsing:
            complain(f"{spelling} is now {instead}")
        return value

    return click.option(spelling, hidden=True, callback=note, **settings)


ids_option = click.option("--ids", is_flag=True, help="The prompts are token ids such as 1,5,6; an answer is one id.")
"""Beside --clean and --corrupted, wherever a prompt is given."""


class OutputFile(click.Path):
    """A file that the command writes, of one of these kinds; refused before any work if it would cost another file."""

    name = "file"

    def __init__(self, *kinds: str, screen: bool = False) -> None:
        super().__init__(path_type=Path, allow_dash=screen)
        self.kinds, self.screen = kinds, screen

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "FILE|-" if self.screen else "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(str(super().convert(value, param, ctx)))
        if self.screen and path == STANDARD_OUTPUT:
            return path
        try:
            check_output(path, self.kinds)
        except UsageError as error:
            self.fail(str(error), param, ctx)
        return path


def refuse_half_of_two(given: Mapping[str, Any]) -> None:
    """Raise UsageError where one of --answer and --wrong is given."""
    if (given["answer"] is None) != (given["wrong"] is None):
        said, lacking = ("answer", "wrong") if given["wrong"] is None else ("wrong", "answer")
        raise UsageError(f"--answer and --wrong come together; --{said} is given, add --{lacking}")


def whole_numbers(text: str, name: str, such_as: str = "0,5,-1") -> tuple[int, ...]:
    """Return the numbers of `1,2,3`. Raises UsageError, under the name of the option."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{name}: {text!r} is not a list of whole numbers such as {such_as}") from error


def json_option(kind: str, help: str = "Write the result here; - is standard output.") -> Callable[[Command], Command]:
    """Give a command that writes a file of its own `--json FILE|-`: for `-` it writes a file, which is printed at the
    end, and says all else on standard error."""
    option = click.option("--json", "json_file", type=OutputFile(kind, screen=True), help=help)

    def decorated(command: Command) -> Command:
        @functools.wraps(command)
        def printing(**given: Any) -> Any:
            if given["json_file"] != STANDARD_OUTPUT:
                return command(**given)
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, "out.json")
                with redirect_stdout(sys.stderr):
                    code = command(**{**given, "json_file": file})
                if file.exists():
                    click.echo(file.read_text(encoding="utf-8"), nl=False)
            return code

        wrapped: Command = option(printing)
        return wrapped

    return decorated


printed_json_option = click.option(
    "--json", "json_file", is_flag=False, flag_value=str(STANDARD_OUTPUT), type=OutputFile("printed", screen=True),
    metavar="[FILE|-]", help="Give it as JSON, in this file or on standard output.",
)  # fmt: skip
"""For every command that prints a table: without a file the JSON takes the table's place."""

outputs_option = click.option(
    "-o", "--output", "outputs", multiple=True, type=OutputFile(*BY_KIND),
    help="Write a report; the suffix chooses: .html, .md, .json, .xml (JUnit).",
)  # fmt: skip
"""For every command that has a result to show."""

known_option = click.option(
    "--known", type=click.Path(path_type=Path), metavar="FILE",
    help="Failures known of an engine: they pass, and fail where one is mended.",
)  # fmt: skip
write_known_option = click.option(
    "--write-known", type=OutputFile("known"), metavar="FILE",
    help="Write what fails as known failures here; reasons that --known gives are kept.",
)  # fmt: skip


def _use_device(context: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    from harness.environment.facts import use_wanted_device

    if not context.resilient_parsing:
        use_wanted_device(name)
    return name


device_option = click.option(
    "--device", type=click.Choice(["cpu", "gpu"]), callback=_use_device, expose_value=False,
    help="Compute on this device, not on MLX's own choice; HARNESS_DEVICE says the same.",
)  # fmt: skip
"""For every command that runs a model: the device is in use before the command begins."""

dequantise_option = click.option(
    "--dequantise", type=click.Choice(DEQUANTISE), default=NEVER, show_default=True,
    help="auto: sweep a float32 copy of a quantised model where that pays, on a CPU with the memory for it.",
)  # fmt: skip

workers_option = click.option(
    "-n", "--workers", metavar="N",
    help="Worker processes; each loads a model once. `auto`: one a core. Without it none, and one on a GPU.",
)  # fmt: skip
