"""The parts of snapshots by themselves: refusing, comparing, and where files live."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from example_results import HERE, curve, job

from harness.snapshots import JobSnapshot, differences, folder_of, location_of, refuse_non_finite
from harness.snapshots.document import document as job_document
from harness.snapshots.document import dumps
from harness.vocabulary.errors import SnapshotRefused

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def document() -> dict[str, Any]:
    return {
        "schema": "mlx-patch-harness/snapshot/1", "case": "c", "model": "m", "engine": "native",
        "tolerance": {"recovery_points": 0.5, "baseline_relative": 0.01},
        "provenance": {"backend": "cpu"},
        "tokens": {"clean": [1], "corrupted": [2]},
        "curves": [
            {
                "component": "mlp_out", "metric": "l2",
                "baseline": {"value": 10.0, "unit": "logits", "state": "finite"},
                "recovery_unit": "%",
                "recoveries": [{"layer": 3, "position": "all", "value": 50.0, "state": "finite", "precision": 2.0},
                               {"layer": 4, "position": "all", "value": None, "state": "undefined"}],
            }
        ],
    }  # fmt: skip


def put(document: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    inner: Any = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


BASELINE = ("curves", 0, "baseline")
FIRST = ("curves", 0, "recoveries", 0)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize(
    "path", [(*BASELINE, "value"), (*FIRST, "value"), ("tolerance", "recovery_points"), ("provenance", "extra")]
)
def test_a_number_that_is_not_finite_is_refused(document: dict[str, Any], path: tuple[str, ...], value: float) -> None:
    poisoned = put(document, path, value)
    with pytest.raises(SnapshotRefused):
        refuse_non_finite(poisoned)
    with pytest.raises(SnapshotRefused):
        JobSnapshot().serialize(poisoned)
    with pytest.raises(ValueError, match="not JSON compliant"):
        dumps(poisoned)


@pytest.mark.parametrize("state", ["nan", "inf"])
@pytest.mark.parametrize(("path", "where"), [(BASELINE, "baseline"), (FIRST, "layer 3")], ids=["baseline", "recovery"])
def test_a_reading_that_is_not_finite_is_refused_by_name(
    document: dict[str, Any], path: tuple[str, ...], where: str, state: str
) -> None:
    poisoned = put(put(document, (*path, "state"), state), (*path, "value"), None)
    with pytest.raises(SnapshotRefused, match=f"mlp_out l2 {where} is {state}"):
        JobSnapshot().serialize(poisoned)


def test_an_undefined_recovery_may_be_stored(document: dict[str, Any]) -> None:
    assert json.loads(JobSnapshot().serialize(document)) == document


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ((*FIRST, "value"), 50.4, None),
        ((*FIRST, "value"), 50.6, "mlp_out l2 layer 3"),
        ((*BASELINE, "value"), 10.09, None),
        ((*BASELINE, "value"), 10.2, "mlp_out l2 baseline"),
        ((*BASELINE, "unit"), "nats", "mlp_out l2 baseline"),
        ((*FIRST, "state"), "zero-baseline", "mlp_out l2 layer 3"),
        ((*FIRST, "value"), NAN, "mlp_out l2 layer 3"),
        ((*FIRST, "value"), None, "mlp_out l2 layer 3"),
        (("curves", 0, "recoveries", 1, "value"), 0.0, "mlp_out l2 layer 4"),
        ((*FIRST, "precision"), 2.4, None),
        ((*FIRST, "precision"), -2.0, "mlp_out l2 layer 3 error bar"),
        (FIRST, {"layer": 3, "position": "all", "value": 50.0, "state": "finite"}, "mlp_out l2 layer 3 error bar"),
        ((*FIRST, "position"), "last", "mlp_out l2 layer 3"),
        (("curves",), [], "mlp_out l2 baseline"),
        (("tolerance", "recovery_points"), 5.0, "tolerance"),
        (("engine",), "legacy", "engine"),
        (("schema",), "mlx-patch-harness/snapshot/2", "schema"),
        (("provenance", "backend"), "metal", None),
    ],
)
def test_differences(document: dict[str, Any], path: tuple[str, ...], value: Any, where: str | None) -> None:
    changed = put(document, path, value)
    for old, new in ((document, changed), (changed, document)):
        if path != ("tolerance", "recovery_points") or new is changed:
            found = differences(old, new)
            assert bool(found) == (where is not None), found
            assert where is None or where in {each.where for each in found}


def test_nan_equals_nothing_not_even_itself(document: dict[str, Any]) -> None:
    poisoned = put(document, (*FIRST, "value"), NAN)
    assert [each.where for each in differences(poisoned, poisoned)] == ["mlp_out l2 layer 3"]


def test_a_tolerance_given_replaces_both(document: dict[str, Any]) -> None:
    changed = put(put(document, (*FIRST, "value"), 54.0), ("tolerance", "recovery_points"), 9.0)
    wide = {"recovery_points": 5.0, "baseline_relative": 0.05}
    assert differences(document, changed, wide) == []
    assert differences(document, changed, {**wide, "recovery_points": 3.0}) != []


@pytest.mark.parametrize(
    ("file", "folder"),
    [("cases/a.case.yaml", "snapshots"), ("mine/a.case.yaml", "mine/snapshots"), ("a.case.yaml", "snapshots")],
)
def test_snapshots_live_beside_the_cases(tmp_path: Path, file: str, folder: str) -> None:
    assert folder_of(tmp_path / file) == tmp_path / folder


def test_the_file_of_a_job(tmp_path: Path) -> None:
    file = location_of(tmp_path / "cases" / "a.case.yaml", "mine.engine:run@tiny", "metal")
    assert file == tmp_path / "snapshots" / "a" / "mine.engine+run@tiny.metal.json"


def test_one_reading_a_line(document: dict[str, Any]) -> None:
    lines = dumps(document).splitlines()
    assert sum('"layer"' in line for line in lines) == 2
    assert max(map(len, lines)) <= 120


def test_the_error_bar_of_a_recovery_is_in_the_document() -> None:
    plain = curve(50.0, 25.0)
    barred = replace(plain, cells=(replace(plain.cells[0], precision=-1.25), plain.cells[1]))
    (stored,) = job_document(job(curves=(barred,)), HERE, {})["curves"]
    assert [cell.get("precision") for cell in stored["recoveries"]] == [-1.25, None]
    assert "precision" not in stored["recoveries"][1]
