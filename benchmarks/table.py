"""The results as Markdown, for the README: from the JSON alone, so an old one can be shown again.

python benchmarks/table.py [FILE]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_MAIN = ("main", "prefix")

Result = Mapping[str, Any]


def markdown(content: Result) -> str:
    """Return the tables of one results file."""
    return "\n".join([*_heading(content), *_main(content), *_others(content), *_absent(content)])


def _heading(content: Result) -> Iterator[str]:
    machine, where = content["machine"], content["environment"]
    settings = " ".join(f"{name}={value}" for name, value in machine["settings"].items())
    yield (
        f"{where['device']}, {where['platform']}, MLX {where['packages']['mlx']}, BLAS {machine['blas']}"
        f"{', ' + settings if settings else ''}; peak {machine['gflops']:.3g} GFLOP/s, "
        f"{machine['gigabytes_per_second']:.3g} GB/s; medians of {content['rounds']} rounds, "
        f"load average {machine['load'][0]:.1f} at the start. Ratios are to the first column; memory is "
        "MLX's peak above the weights. Products: the share of the walk's time that its own matrix products take by "
        "themselves on this BLAS; roofline: the share they would take at the peak."
    )
    yield ""


def _main(content: Result) -> Iterator[str]:
    results = [result for result in content["settings"] if result["group"] in _MAIN and result["contenders"]]
    if not results:
        return
    names = list(dict.fromkeys(name for result in results for name in result["contenders"]))
    others = [name for name in names if name != "one-pass"]
    yield f"| float32, `mlp_out` at every layer | one-pass | {' | '.join(others)} | products | roofline | memory |"
    yield "|---" * (len(others) + 5) + "|"
    for result in results:
        found = result["contenders"]
        alike = f", the first {result['differ']} alike" if result.get("differ") else ""
        cells = [f"{found[name]['times_the_first']:.1f} x" if name in found else "" for name in others]
        first = found.get("one-pass")
        bound = result["roofline"] or {}
        share, alone = (f"{100 * bound[key]:.0f} %" if bound else "" for key in ("share", "products_share"))
        yield (
            f"| {result['architecture']}, {result['layers']} layers, {result['vocab']:,}, "
            f"{result['tokens']} tokens{alike} "
            f"| {_seconds(first)} | {' | '.join(cells)} | {alone} | {share} | {_gigabytes(first)} |"
        )
    yield ""


def _others(content: Result) -> Iterator[str]:
    results = [result for result in content["settings"] if result["group"] not in _MAIN and result["contenders"]]
    if not results:
        return
    yield "| setting | contender | wall | CPU | relative | memory |"
    yield "|---|---|---|---|---|---|"
    for result in results:
        for name, found in result["contenders"].items():
            yield (
                f"| {result['id']} | {name} | {_seconds(found)} | {found['cpu_median']:.3g} s, "
                f"{found['cpu_times_the_first']:.2f} x "
                f"| {found['times_the_first']:.2f} x | {_gigabytes(found)} |"
            )
    yield ""


def _absent(content: Result) -> Iterator[str]:
    for result in content["settings"]:
        for name, reason in result["absent"].items():
            yield f"- {result['id']}: without {name}: {reason}"


def _seconds(found: Result | None) -> str:
    return f"{found['wall_median']:.3g} s" if found else ""


def _gigabytes(found: Result | None) -> str:
    return f"{found['mlx_bytes_above'] / 1e9:.2f} GB" if found else ""


if __name__ == "__main__":
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("results.json")
    print(markdown(json.loads(file.read_text(encoding="utf-8"))))
