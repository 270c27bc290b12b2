"""A row of the matrix: every check on one architecture, in a process of its own, because one may end the process."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.laws.architectures import reference
from harness.laws.architectures.checks import CHECKS, build
from harness.laws.architectures.equality import COMPONENTS, DTYPES
from harness.models.sources.miniatures import reasons
from harness.support.interpreter import python
from harness.vocabulary.errors import described

PASS = "pass"
NOT_BUILT = "not built"
FAIL = "FAIL: "
TIMEOUT_S = 300
_ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
"""A row has a process of its own, a core each, and idle threads of torch spin."""

COLUMNS: Mapping[str, str] = {
    "builds": "the small configuration builds and runs on the CPU, and no logit is NaN or inf",
    "traced": "recording changes no bit of the logits",
    "self-patch": "a run that gets its own activations back keeps every bit",
    "residual": "the whole residual stream after any one layer carries the other run's logits with it",
    "parts": "what the hook points record adds up to the residual stream, within 1e-5",
    "stepwise": "every component can be patched and changes something, positions mean what they say, and the model is "
    "left as it was",
    "one-pass": "the one-pass sweep gives the logits of the stepwise one, at all positions, at the last, and at each, "
    "within 1e-5",
}


@dataclass(frozen=True)
class ArchitectureRow:
    """One architecture: column -> `pass`, a reason, or `FAIL: ` and what was seen."""

    architecture: str
    cells: Mapping[str, str]

    @property
    def faults(self) -> list[str]:
        """Return what is neither a pass nor a known reason."""
        return [f"{self.architecture} {column}: {text}" for column, text in self.cells.items() if FAIL in text]


def row_of(architecture: str) -> ArchitectureRow:
    """Run every check on one architecture, in this process."""
    model: list[Any] = []
    cells = {"builds": cell(architecture, "builds", lambda: model.append(build(architecture)))}
    for column, check in CHECKS.items():
        cells[column] = cell(architecture, column, partial(check, model[0])) if model else NOT_BUILT
    return ArchitectureRow(architecture, cells)


def rows(architectures: Iterable[str], workers: int = 2) -> Iterator[ArchitectureRow]:
    """Yield the row of each architecture in order, each from a process of its own."""
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(_in_a_process, architectures)


def equalities(
    architectures: Iterable[str], dtypes: Sequence[str] = tuple(DTYPES), workers: int = 2
) -> Iterator[tuple[str, Mapping[str, Mapping[str, str]]]]:
    """Yield each architecture's dtype -> component -> cell of the equality matrix, from a process of its own."""

    def one(architecture: str) -> tuple[str, Mapping[str, Mapping[str, str]]]:
        cells, seen = _answer("equality", architecture, *dtypes)
        return architecture, cells or {dtype: dict.fromkeys(COMPONENTS, FAIL + seen) for dtype in dtypes}

    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(one, architectures)


def references(architectures: Iterable[str], workers: int = 2) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield each architecture's column -> cell of the reference table, from a process of its own."""

    def one(architecture: str) -> tuple[str, Mapping[str, str]]:
        cells, seen = _answer("reference", architecture)
        return architecture, cells or dict.fromkeys(reference.COLUMNS, FAIL + seen)

    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(one, architectures)


def _in_a_process(architecture: str) -> ArchitectureRow:
    cells, seen = _answer("architectures", architecture)
    return ArchitectureRow(architecture, cells or dict.fromkeys(COLUMNS, FAIL + seen))


def _answer(*arguments: str) -> tuple[Any, str]:
    """Return what a process of its own prints, or None and what was seen instead."""
    command = python("-m", "harness.laws.architectures", *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=_ONE_THREAD)
        return json.loads(done.stdout.splitlines()[-1]), ""
    except subprocess.TimeoutExpired:
        return None, f"no answer in {TIMEOUT_S} s"
    except (IndexError, json.JSONDecodeError):
        return None, f"the process ended with {done.returncode}: {done.stderr.strip()[-200:]}"


def cell(architecture: str, column: str, check: Callable[[], Any]) -> str:
    """Return what a check comes to: a pass, the reason that is known for it, or a fault."""
    known = reasons.REASONS.get(architecture, {}).get(column)
    try:
        check()
    except Exception as error:  # noqa: BLE001  whatever a foreign forward pass raises belongs into its cell
        seen = " ".join(described(error).split())
        return known.text if known and re.search(known.seen, seen) else FAIL + seen
    return f"{FAIL}passes, and is listed with a reason: {known.text}" if known else PASS
