"""What a snapshot holds: JSON types only, in a stable order, rounded so that a diff shows change and not noise."""

from __future__ import annotations

from typing import Any

from harness.vocabulary import Curve, Environment, JobResult, Reading

SNAPSHOT_SCHEMA = "mlx-patch-harness/snapshot/1"

Document = dict[str, Any]


def document(job: JobResult, environment: Environment, tolerance: dict[str, float]) -> Document:
    """Return what is stored of a job. `provenance` says where the numbers come from and is not compared."""
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
        "tokens": {"clean": _ids(job.clean), "corrupted": _ids(job.corrupted)},
        "curves": [_curve(curve) for curve in job.curves],
    }


def _ids(tokens: Any) -> list[int]:
    return list(tokens.ids) if tokens else []


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "component": curve.component,
        "metric": curve.metric,
        "baseline": _reading(curve.baseline, curve.unit, significant=7),
        "recoveries": [
            {"layer": cell.layer, "position": cell.position, **_reading(cell.recovery, "%", decimals=4)}
            for cell in curve.cells
        ],
    }


def _reading(
    reading: Reading, unit: str, significant: int | None = None, decimals: int | None = None
) -> dict[str, Any]:
    value = reading.value
    if value is not None:
        value = float(f"{value:.{significant}g}") if significant else round(value, decimals)
    return {"value": value, "unit": unit, "state": reading.state.value}
