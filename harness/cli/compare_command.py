"""`harness compare`: two runs side by side, and a verdict over the differences."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.help import Helped
from harness.cli.output import complain
from harness.cli.parameters import OutputFile
from harness.results.compare import DEFAULT, LIMITS, Match, breaches, compare, judge, parse_limits
from harness.results.json import read
from harness.results.reports import differences
from harness.results.reports.terminal import console
from harness.support.files import write_text
from harness.vocabulary.errors import EXIT_NOTHING_RAN, UsageError

_RENDER = {".md": differences.render, ".json": differences.dumps}
_WORDS = "\n\n".join(
    f"{limit.name}{f'=N ({limit.number})' if limit.number else ''}: {limit.about}" for limit in LIMITS.values()
)


@click.command("compare", cls=Helped, epilog=f"Words of --fail-on:\n\n{_WORDS}\n\nnone: no limit.")
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--engines", nargs=2, metavar="FIRST SECOND", help="Compare one engine with another one.")
@click.option(
    "--models",
    nargs=2,
    metavar="FIRST SECOND",
    help="Compare one model with another one; '*-f32' '*-f16' compares each with its namesake.",
)
@click.option(
    "--fail-on",
    multiple=True,
    metavar="LIMIT[=N],...",
    help="What is too much, beside what is missing; without it: status, finding, state, missing.",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=OutputFile("markdown", "comparison"),
    help="Write the comparison; the suffix chooses: .md, .json.",
)
@click.option("--markdown", is_flag=True, help="Print Markdown.")
def command(
    base: Path, new: Path, engines: Match | None, models: Match | None, fail_on: tuple[str, ...],
    outputs: tuple[Path, ...], markdown: bool,
) -> int:  # fmt: skip
    """Show what differs between two result files.

    BASE and NEW are files that `harness run --json` wrote.

    Exit codes: 0 within the limits, 1 beyond them, 4 wrong usage, 5 nothing to compare: no job in
    common, or none that ran.
    """
    # Two engines, or two dtypes, need not answer the same cases.
    default = [name for name in DEFAULT if name != "missing" or not (engines or models)]
    limits = parse_limits(fail_on, default)
    for file in outputs:
        if file.resolve() in (base.resolve(), new.resolve()):
            raise UsageError(f"{file} is one of the two results; give the comparison another name")
    comparison = compare(read(base), read(new), engines, models)
    broken = breaches(comparison, limits)
    for file in outputs:
        write_text(file, _RENDER[file.suffix.lower()](comparison, broken))
    if markdown:
        click.echo(differences.render(comparison, broken), nl=False)
    else:
        differences.print_comparison(comparison, broken, console())
    _, code = judge(comparison, broken)
    if code == EXIT_NOTHING_RAN and not comparison.jobs and not comparison.otherwise:
        hint = "--engines and --models pair jobs that only a name keeps apart"
        complain(f"no job is in both; {hint}")
    return code
