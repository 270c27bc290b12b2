"""What a user waits for: whole commands, process start included, now and as an older checkout does them.

    python benchmarks/waits.py [--before CHECKOUT] [--rounds N] [--only NAME ...] [--out FILE]

The commands take turns within a round, and the older checkout, with a `.venv` of its own, its turn after each; what is
reported is the median over the rounds, and the ratio of the two within a round. `HARNESS_BLAS=stock` is handed on. A
command that ends otherwise than it should has no time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import harness  # noqa: F401  # it loads the BLAS, which must come before MLX

# isort: split
import mlx.core as mx
from machine import examine
from mlx.utils import tree_flatten

from harness.models import load
from harness.models.architectures import blocks_of

ROOT = Path(__file__).parents[1]
SCHEMA = "mlx-patch-harness/waits/1"
SMOLLM2 = ("-m", "smollm2-135m-f32", "--clean", "The capital of France is", "--corrupted", "The capital of Italy is")
SWEEP = ("patch", *SMOLLM2, "--component", "mlp_out", "--metric", "l2")
QUANTISED = ("patch", "-m", "smollm2-135m-q4", *SMOLLM2[2:], "--component", "mlp_out", "--metric", "l2")


@dataclass(frozen=True)
class Wait:
    """A command, how the older checkout is asked for the same, and the exit codes that it may have."""

    name: str
    command: tuple[str, ...]
    before: tuple[str, ...] | None = None
    codes: tuple[int, ...] = (0,)
    parts: bool = False
    """Whether the command is a run, whose result says how long its parts took."""

    def of(self, older: bool) -> tuple[str, ...]:
        return self.before if older and self.before is not None else self.command


WAITS = (
    Wait("help", ("--help",)),
    Wait("list", ("list",)),
    Wait("validate, the bundled cases", ("validate",)),
    Wait("patch, first proof", (*SWEEP, "--prove"), SWEEP),
    Wait("patch, proof remembered", SWEEP),
    Wait("run of SmolLM2, float32", ("run", "cases/smollm2-france-italy.case.yaml"), codes=(0, 1), parts=True),
    Wait("run of SmolLM2, float16", ("run", "cases/smollm2-float16.case.yaml"), codes=(0, 1), parts=True),
    Wait("patch, 4 bits", QUANTISED),
    Wait("patch, 4 bits, dequantised", (*QUANTISED, "--dequantise", "auto"), QUANTISED),
    Wait("diagnose, an overflow", ("diagnose", "-m", "{overflowing}", *SMOLLM2[2:]), codes=(1,)),
    Wait("run of the bundled cases, -n 2", ("run", "-n", "2"), codes=(0, 1), parts=True),
)


def main() -> int:
    options = arguments()
    chosen = [wait for wait in WAITS if not options.only or wait.name in options.only]
    machine = examine(1.0)
    with tempfile.TemporaryDirectory() as folder:
        places = {"overflowing": str(Path(folder) / "overflowing")}
        if any("{overflowing}" in wait.command for wait in chosen):
            save_overflowing(Path(places["overflowing"]))
        rounds = [measured(chosen, options.before, places) for _ in range(options.rounds)]
    content = {"schema": SCHEMA, "machine": vars(machine), "rounds": options.rounds, "waits": told(chosen, rounds)}
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print("\n".join(markdown(content)))
    return int(any(seconds is None for each in rounds for seconds in each.values()))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="an older checkout, with its `.venv`")
    parser.add_argument("--rounds", type=int, default=3, help="how often every command runs (default 3)")
    parser.add_argument("--only", nargs="+", choices=[wait.name for wait in WAITS], metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("waits.json"), help="where the JSON goes")
    return parser.parse_args()


def save_overflowing(folder: Path) -> None:
    """Save SmolLM2 in float16 with an MLP in block 3 whose output, 12,000 times as large, leaves the stream's range."""
    loaded = load("smollm2-135m-f16")
    if loaded.folder is None:
        raise SystemExit("smollm2-135m-f16 was not read from a folder")
    shutil.copytree(loaded.folder, folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    projection = blocks_of(loaded.module)[3].mlp.down_proj
    projection.weight = projection.weight * 12000
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(loaded.module.parameters())))


Seconds = Mapping[tuple[str, bool], tuple[float, Mapping[str, float]] | None]
"""By command and whether it is the older checkout's: wall seconds and those of its parts; None where it went wrong."""


def measured(waits: Sequence[Wait], before: Path | None, places: Mapping[str, str]) -> Seconds:
    """Run every command once."""
    found = {}
    for wait in waits:
        for older in (False, True) if before else (False,):
            command = [part.format(**places) if "{" in part else part for part in wait.of(older)]
            found[wait.name, older] = timed(command, before if older and before else ROOT, wait)
            print(f"{wait.name}{', before' if older else ''}: {found[wait.name, older]}", file=sys.stderr, flush=True)
    return found


def timed(command: Sequence[str], checkout: Path, wait: Wait) -> tuple[float, Mapping[str, float]] | None:
    """Return the wall seconds of a command, and for a run the seconds of its jobs by part."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        more = ("--json", str(result)) if wait.parts else ()
        python = checkout / ".venv" / "bin" / "python"
        started = time.perf_counter()
        done = subprocess.run(
            [python, "-m", "harness", *command, *more], cwd=checkout, capture_output=True, env=os.environ
        )
        seconds = time.perf_counter() - started
        if done.returncode not in wait.codes:
            print(done.stderr.decode()[-2000:], file=sys.stderr)
            return None
        return seconds, parts(json.loads(result.read_text(encoding="utf-8"))) if wait.parts else {}


def parts(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the seconds of a run's jobs, added up: `sweep_s`, `checks_s`, ..."""
    added: dict[str, float] = {}
    for job in result["jobs"]:
        for name, seconds in job.get("timings", {}).items():
            added[name] = added.get(name, 0.0) + seconds
    return added


def told(waits: Sequence[Wait], rounds: Sequence[Seconds]) -> list[dict[str, Any]]:
    """Return the medians, as JSON types."""
    return [{"name": wait.name, "command": [*wait.command], **_told(wait, rounds)} for wait in waits]


def _told(wait: Wait, rounds: Sequence[Seconds]) -> dict[str, Any]:
    now = [each[wait.name, False] for each in rounds]
    before = [each.get((wait.name, True)) for each in rounds]
    made: dict[str, Any] = {}
    for name, found in (("now", now), ("before", before)):
        if seen := [each for each in found if each]:
            made[name] = median(seconds for seconds, _ in seen)
            made[f"{name}_parts"] = {part: median(each[1][part] for each in seen) for part in seen[0][1]}
    ratios = [old[0] / new[0] for new, old in zip(now, before, strict=True) if new and old]
    return {**made, **({"times": median(ratios)} if ratios else {})}


def markdown(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of a result."""
    machine = content["machine"]
    yield f"BLAS {machine['blas']}, peak {machine['gflops']:.3g} GFLOP/s; medians of {content['rounds']} rounds."
    yield ""
    yield "| command | now | before | times | beside the sweep |"
    yield "|---|---|---|---|---|"
    for wait in content["waits"]:
        cells = [_seconds(wait, "now"), _seconds(wait, "before"), f"{wait['times']:.1f}" if "times" in wait else ""]
        yield f"| {' | '.join([wait['name'], *cells, _beside(wait)])} |"


def _seconds(wait: Mapping[str, Any], when: str) -> str:
    return f"{wait[when]:.2f} s" if when in wait else ""


def _beside(wait: Mapping[str, Any]) -> str:
    """Return what the checks and the comparison of the model take, as a share of the sweep."""
    shares = []
    for when in ("now_parts", "before_parts"):
        if sweep := wait.get(when, {}).get("sweep_s"):
            rest = sum(seconds for name, seconds in wait[when].items() if name not in ("sweep_s", "load_s"))
            shares.append(f"{100 * rest / sweep:.0f} %")
    return ", before ".join(shares)


if __name__ == "__main__":
    sys.exit(main())
