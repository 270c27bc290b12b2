"""`harness doctor`: is this machine fit to judge?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from harness.cli import completers
from harness.cli.help import Helped
from harness.cli.output import print_json
from harness.cli.parameters import device_option
from harness.vocabulary.errors import EXIT_FINDINGS, EXIT_PASSED, UnknownName, UsageError


@click.command("doctor", cls=Helped)
@click.option("-m", "--model", shell_complete=completers.models, help="A folder or a model: is its config.json read?")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(model: str | None, as_json: bool) -> int:
    """Show versions and device, and test the detectors.

    With --model, also say which keys of its config.json mlx-lm ignores.
    """
    from harness.environment.doctor import examine

    report = examine(_folder(model) if model else None)
    if as_json:
        print_json({"fit": report.fit, **asdict(report)})
    else:
        for name, value in report.facts.items():
            click.echo(f"{name:<22} {value}")
        for probe in report.probes:
            click.echo(f"{probe.name:<22} {'ok' if probe.passed else 'FAILED'}: {probe.detail}")
        for note in report.notes:
            click.echo(f"note: {note}")
    return EXIT_PASSED if report.fit else EXIT_FINDINGS


def _folder(name: str) -> Path:
    from harness.models import bundled, folder_of
    from harness.models.sources.folder import problem

    folder: Path | None = Path(name).expanduser()
    if not Path(name).expanduser().is_dir():
        table = bundled()
        if name not in table:
            raise UnknownName("folder or model", name, table)
        folder = folder_of(table[name])
    if folder is None:
        raise UsageError(f"{name} has no config.json here: it is made in memory, or not fetched")
    if reason := problem(folder):
        raise UsageError(reason)
    return folder
