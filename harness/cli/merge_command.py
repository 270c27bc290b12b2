"""`harness merge`: the results of shards, put together as one run."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.help import Helped
from harness.cli.parameters import json_option, outputs_option
from harness.results.reports.outputs import write


@click.command("merge", cls=Helped)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option("result")
@outputs_option
@click.option("--min-jobs", type=click.IntRange(min=1), metavar="N", help="Fail if fewer jobs ran, in all shards.")
def command(files: tuple[Path, ...], json_file: Path | None, outputs: tuple[Path, ...], min_jobs: int | None) -> int:
    """Put the results of shards together.

    FILES are the results of `harness run --shard 1/N --json FILE` to `--shard N/N`. The verdict and the exit code are
    those of the whole run. A shard that is missing, given twice or cut from another run is refused.
    """
    from harness.results.json import read
    from harness.results.reports.terminal import console, print_run
    from harness.results.shards import merged, with_floor
    from harness.vocabulary.errors import UsageError

    outputs = (*filter(None, [json_file]), *outputs)
    shards = {file.resolve() for file in files}
    if taken := [file for file in outputs if file.resolve() in shards]:
        raise UsageError(f"{taken[0]} is the result of a shard; give the merged result another name")
    run = with_floor(merged([(str(file), read(file)) for file in files]), min_jobs)
    for file in outputs:
        write(run, file)
    print_run(run, console())
    return run.exit_code
