"""What a snapshot holds: JSON types only, in a stable order, rounded so that a diff shows change and not noise."""

from __future__ import annotations

import json
from typing import Any

from harness.vocabulary import Cell, Curve, Environment, JobResult
from harness.vocabulary.errors import SnapshotRefused

SNAPSHOT_SCHEMA = "mlx-patch-harness/snapshot/1"

Document = dict[str, Any]


def document(job: JobResult, environment: Environment, tolerance: dict[str, float]) -> Document:
    """Return what is stored of a job.

    `provenance` says where the numbers come from, `verdict` what the checks made of them; neither is compared.
    """
    return {
        "schema": SNAPSHOT_SCHEMA,
        "case": job.case,
        "model": job.model,
        "engine": job.engine,
        "tolerance": tolerance,
        "provenance": {
            "harness": environment.harness,
            "backend": environment.backend,
            "device": environment.device,
            "platform": environment.platform,
            "mlx": environment.packages.get("mlx", ""),
            "mlx-lm": environment.packages.get("mlx-lm", ""),
        },
        "verdict": {"status": job.status.value, "findings": sorted({finding.code for finding in job.findings})},
        "tokens": {"clean": _ids(job.clean), "corrupted": _ids(job.corrupted)},
        "curves": [_curve(curve) for curve in job.curves],
    }


def _ids(tokens: Any) -> list[int]:
    return list(tokens.ids) if tokens else []


def _curve(curve: Curve) -> dict[str, Any]:
    baseline = curve.baseline.value
    return {
        "component": curve.component,
        "metric": curve.metric,
        "baseline": {
            "value": None if baseline is None else float(f"{baseline:.7g}"),
            "unit": curve.unit,
            "state": curve.baseline.state.value,
        },
        "recovery_unit": "%",
        "recoveries": [_cell(cell) for cell in curve.cells],
    }


def _cell(cell: Cell) -> dict[str, Any]:
    value, state = cell.recovery.value, cell.recovery.state.value
    rounded = None if value is None else round(value, 4)
    head = {} if cell.head is None else {"head": cell.head}
    bar = {} if cell.precision is None else {"precision": round(cell.precision, 4)}
    return {"layer": cell.layer, **head, "position": cell.position, "value": rounded, "state": state, **bar}


def refuse_non_finite(document: Document) -> None:
    """Raise SnapshotRefused when a reading is inf or nan, or when any number in the document is."""
    for curve in document["curves"]:
        for reading in (curve["baseline"], *curve["recoveries"]):
            if reading["state"] in ("inf", "nan"):
                where = f"layer {reading['layer']}" if "layer" in reading else "baseline"
                raise SnapshotRefused(f"{curve['component']} {curve['metric']} {where} is {reading['state']}")
    try:
        dumps(document)
    except ValueError as error:
        raise SnapshotRefused(f"the document holds a number that is not finite: {error}") from error


def dumps(document: Document) -> str:
    """Return a document as JSON text with one reading a line. Raises ValueError on a number that is not finite."""
    return _text(document, "") + "\n"


_WIDTH = 118


def _text(value: Any, indent: str) -> str:
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, dict | list) or len(indent) + len(line) <= _WIDTH:
        return line
    inner = indent + " "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {_text(entry, inner)}" for key, entry in value.items()]
        opening, closing = "{}"
    else:
        parts = [_text(entry, inner) for entry in value]
        opening, closing = "[]"
    return f"{opening}\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}{closing}"
