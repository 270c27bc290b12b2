"""`make bench`: how long a sweep takes, beside other ways to make the same one.

    python benchmarks/sweep.py [--quick] [--rounds N] [--only ID ...] [--without NAME ...] [--out FILE]

Contenders take turns within a round, so that a busy minute slows all of them, and a ratio is taken within its round;
what is reported is the median over the rounds. Every contender's logits are held against the stepwise ones (relative
to the largest logit). The results, with the environment they were made in, go to a JSON file beside this one, and a
Markdown table to the terminal.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import harness  # noqa: F401  # it loads the BLAS, which must come before MLX

# isort: split
from contenders import Absent, Run, difference, prepare, question, recoveries
from machine import Machine, Timing, examine, product_seconds, roofline, timed
from settings import Setting, settings
from table import markdown

from harness.environment.facts import environment
from harness.models import LoadedModel, load
from harness.vocabulary.errors import HarnessError

SCHEMA = "mlx-patch-harness/benchmark/1"
EQUAL = 1e-5
"""DESIGN's figure for float32; another library's own kernels may round differently and are shown as they are."""


def main() -> int:
    options = arguments()
    chosen = [setting for setting in settings(options.quick) if not options.only or setting.id in options.only]
    if not chosen:
        known = ", ".join(setting.id for setting in settings(options.quick))
        sys.exit(f"--only: no setting is called {' or '.join(options.only)}; there are {known}")
    machine = examine(0.05 if options.quick else 1.0)
    results = []
    for setting in chosen:
        results.append(measure(setting, machine, options.rounds, frozenset(options.without)))
        write(options.out, machine, options.rounds, results)
        print(progress(results[-1]), file=sys.stderr, flush=True)
    print(markdown(json.loads(options.out.read_text(encoding="utf-8"))))
    return 0 if all(agrees(result) for result in results) else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="tiny models: shows that it runs, the figures mean nothing"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often every contender runs (default 3)")
    parser.add_argument("--only", nargs="+", metavar="ID", help="settings to measure")
    parser.add_argument("--without", nargs="+", metavar="NAME", default=[], help="contenders to leave out")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).with_name("results.json"), help="where the JSON goes"
    )
    return parser.parse_args()


def measure(setting: Setting, machine: Machine, rounds: int, without: frozenset[str]) -> dict[str, Any]:
    """Time one setting's contenders in turn, and return its part of the JSON."""
    absent: dict[str, str] = dict.fromkeys(without & set(setting.contenders), "left out by --without")
    try:
        loaded = load(setting.row, download=True)
    except HarnessError as error:
        return {"id": setting.id, "group": setting.group, "contenders": {}, "absent": {"model": str(error)}}
    runs = ready(setting, loaded, absent)
    timings, differences = take_turns(runs, rounds, absent, loaded, setting)
    first = next(iter(timings), "")
    return {
        **about(setting, loaded),
        "contenders": {name: summary(each, timings[first], differences.get(name)) for name, each in timings.items()},
        "absent": absent,
        **share_of_roofline(setting, loaded, machine, timings),
    }


def ready(setting: Setting, loaded: LoadedModel, absent: dict[str, str]) -> dict[str, Run]:
    """Prepare everybody who can take part; the others are noted with their reason."""
    runs: dict[str, Run] = {}
    for name in setting.contenders:
        if name in absent:
            continue
        try:
            runs[name] = prepare(name, loaded, setting.tokens, setting.differ)
        except Absent as reason:
            absent[name] = str(reason)
    return runs


def take_turns(
    runs: dict[str, Run], rounds: int, absent: dict[str, str], loaded: LoadedModel, setting: Setting
) -> tuple[dict[str, list[Timing]], dict[str, float]]:
    """Run everybody once a round. The first contender is the one that the others are measured against."""
    timings: dict[str, list[Timing]] = {name: [] for name in runs}
    rows: dict[str, Any] = {}
    # The very first run touches every page of the weights for the first time. Who cannot run is noted below.
    for run in list(runs.values())[:1]:
        with contextlib.suppress(Absent):
            run()
    for _ in range(rounds):
        for name, run in list(runs.items()):
            try:
                timing, got = timed(run)
            except Absent as reason:
                absent[name] = str(reason)
                del runs[name], timings[name]
                continue
            timings[name].append(timing)
            rows[name] = got
    return timings, compared(rows, loaded, setting)


def compared(rows: dict[str, Any], loaded: LoadedModel, setting: Setting) -> dict[str, float]:
    """Return every contender's distance to the reference: of logits, or of l2 recoveries in percentage points."""
    reference = rows.get("stepwise") or rows.get("grid, cell by cell") or rows.get("forward")
    if not reference:
        return {}
    found = {}
    for name, got in rows.items():
        if isinstance(got, dict):
            wanted = recoveries(loaded, question(loaded, setting.tokens, differ=setting.differ), reference)
            found[name] = max(abs(a - b) for a, b in zip(wanted, got.values(), strict=True)) / 100
        elif got is not None:
            found[name] = difference(reference, got)
    return found


def summary(each: list[Timing], first: list[Timing], apart: float | None) -> dict[str, Any]:
    return {
        "wall": [timing.wall for timing in each],
        "cpu": [timing.cpu for timing in each],
        "wall_median": median(timing.wall for timing in each),
        "cpu_median": median(timing.cpu for timing in each),
        "times_the_first": median(a.wall / b.wall for a, b in zip(each, first, strict=True)),
        "cpu_times_the_first": median(a.cpu / b.cpu for a, b in zip(each, first, strict=True)),
        "mlx_bytes_above": max(timing.mlx for timing in each),
        "resident_bytes_above": max((timing.resident for timing in each if timing.resident is not None), default=None),
        "difference": apart,
    }


def about(setting: Setting, loaded: LoadedModel) -> dict[str, Any]:
    return {
        "id": setting.id,
        "group": setting.group,
        "tokens": setting.tokens,
        "differ": setting.differ,
        "model": setting.row.model_dump(mode="json"),
        "architecture": loaded.card.architecture,
        "layers": loaded.card.layers,
        "vocab": loaded.card.vocab,
        "dtype": loaded.card.dtype,
    }


def share_of_roofline(
    setting: Setting, loaded: LoadedModel, machine: Machine, timings: dict[str, list[Timing]]
) -> dict[str, Any]:
    # Products are counted for a walk over the whole prompt.
    counted = "one-pass" in timings and not setting.differ
    bound = roofline(loaded, setting.tokens, machine) if counted else None
    if bound is None:
        return {"roofline": None}
    wall = median(timing.wall for timing in timings["one-pass"])
    alone = median(product_seconds(loaded, setting.tokens) or 0.0 for _ in range(3))
    return {
        "roofline": {"seconds": bound, "share": bound / wall, "products_alone": alone, "products_share": alone / wall}
    }


def write(file: Path, machine: Machine, rounds: int, results: list[dict[str, Any]]) -> None:
    content = {
        "schema": SCHEMA,
        "environment": asdict(environment()),
        "machine": asdict(machine),
        "rounds": rounds,
        "settings": results,
    }
    file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def progress(result: dict[str, Any]) -> str:
    each = (f"{name} {found['wall_median']:.2f} s" for name, found in result["contenders"].items())
    return f"{result['id']}: {', '.join(each)}"


def agrees(result: dict[str, Any]) -> bool:
    """Say whether our own strategies gave the logits of stepwise; a fast wrong sweep is no result."""
    ours = (
        "one-pass",
        "one-pass and its proof",
        "one-pass, its proof remembered",
        "2L+2 forwards",
        "grid",
        "forward with its trail",
    )
    apart = [result["contenders"][name]["difference"] for name in ours if name in result["contenders"]]
    return all(found is None or found <= EQUAL for found in apart)


if __name__ == "__main__":
    raise SystemExit(main())
