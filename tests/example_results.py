"""Results made by hand, for tests that read results: curves, jobs and runs with just what a test is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.vocabulary import Cell, Curve, Environment, JobResult, Reading, RunResult, State, Status
from harness.vocabulary.backends import CPU

HERE = Environment("0.1.0", "3.11", "Linux", CPU, "a processor", {"mlx": "0.32.4"})


def reading(value: float | str) -> Reading:
    """Return a reading of a number, or of a state's name."""
    return Reading.absent(State(value)) if isinstance(value, str) else Reading.of(value)


def curve(
    *recoveries: float | str, baseline: float | str = 10.0, component: str = "mlp_out", metric: str = "l2"
) -> Curve:
    cells = tuple(Cell(layer, "all", reading(each), reading(each)) for layer, each in enumerate(recoveries))
    start = reading(baseline)
    return Curve(component, metric, "logits", start, start, cells)


def grid(rows: Sequence[Sequence[float | str]], component: str = "resid_pre") -> Curve:
    """Return a layer x position grid."""
    cells = tuple(
        Cell(layer, str(position), reading(each), reading(each))
        for layer, row in enumerate(rows)
        for position, each in enumerate(row)
    )
    ten = Reading.of(10.0)
    return Curve(component, "l2", "logits", ten, ten, cells)


def job(case: str = "case", engine: str = "native", model: str = "tiny", **more: Any) -> JobResult:
    fields = {"status": Status.PASSED, "case_file": f"cases/{case}.case.yaml", **more}
    return JobResult(id=f"{case}[{engine}@{model}]", case=case, model=model, engine=engine, **fields)


def run(*jobs: JobResult, packages: Mapping[str, str] | None = None, **more: Any) -> RunResult:
    environment = HERE if packages is None else Environment("0.1.0", "3.11", "Linux", CPU, "a processor", packages)
    fields = {"verdict": Status.PASSED, "exit_code": 0, "started": "2026-01-01T00:00:00+00:00", "duration_s": 12.34}
    return RunResult(environment=environment, jobs=jobs, **{**fields, **more})
