"""`harness report`: draw a result again, later and elsewhere; MLX need not be installed."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.help import Helped
from harness.cli.output import print_commands
from harness.cli.parameters import outputs_option
from harness.results.json import read
from harness.results.reports.outputs import REPORTS, write
from harness.results.reports.terminal import console, print_run
from harness.vocabulary.errors import UsageError


@click.command("report", cls=Helped)
@click.argument("result", type=click.Path(path_type=Path))
@outputs_option
@click.option("--to", "kind", type=click.Choice([*REPORTS, "terminal"]), help="Print a report instead.")
def command(result: Path, outputs: tuple[Path, ...], kind: str | None) -> None:  # fmt: skip
    """Render a result file as HTML, Markdown, JUnit or annotations.

    RESULT is a file that `harness run --json` wrote.

    Without an option the run's screen is printed again. Ends with 0 whatever the verdict was: rendering worked.
    """
    for file in outputs:
        if file.resolve() == result.resolve():
            raise UsageError(f"{file} is the result itself; give the report another name")
    run = read(result)
    for file in outputs:
        write(run, file)
    if kind == "terminal" or (kind is None and not outputs):
        print_run(run, console())
    elif kind == "annotations":
        print_commands(REPORTS[kind](run))
    elif kind is not None:
        click.echo(REPORTS[kind](run), nl=False)
