"""`harness doctor`: is this machine fit to judge?"""

from __future__ import annotations

from dataclasses import asdict

import click

from harness.cli.output import print_json
from harness.vocabulary.errors import EXIT_FINDINGS, EXIT_PASSED


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(as_json: bool) -> int:
    """Show versions and device, and test the detectors."""
    from harness.environment.doctor import examine

    report = examine()
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
