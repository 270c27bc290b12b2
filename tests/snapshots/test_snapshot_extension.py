"""The parts of snapshots by themselves: reading, refusing, comparing, and where files live."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from example_results import HERE, curve, job

from harness.snapshots import (
    Snapshot,
    SnapshotPlace,
    SnapshotTolerance,
    differences,
    folder_of,
    location_of,
    snapshot_of,
)
from harness.snapshots.document import SnapshotCell
from harness.snapshots.extension import JobSnapshot
from harness.snapshots.file import dumps, loads, read
from harness.vocabulary import Site, State
from harness.vocabulary.backends import CPU, METAL
from harness.vocabulary.errors import SnapshotRefused, SnapshotUnreadable

NAN, INF = float("nan"), float("inf")
FILE = Path(f"snapshots/c/native@m.{CPU}.json")
STORED = sorted((Path(__file__).parents[2] / "snapshots").glob("*/*.json"))
TEXT = """\
{
 "schema": "mlx-patch-harness/snapshot/1",
 "case": "c",
 "model": "m",
 "engine": "native",
 "tolerance": {"recovery_points": 0.5, "baseline_relative": 0.01},
 "provenance": {"backend": "cpu", "device": "a processor"},
 "verdict": {"status": "passed", "findings": ["SNP002"]},
 "tokens": {"clean": [1], "corrupted": [2]},
 "curves": [
  {
   "component": "mlp_out",
   "metric": "l2",
   "baseline": {"value": 10.0, "unit": "logits", "state": "finite"},
   "recovery_unit": "%",
   "recoveries": [
    {"layer": 3, "position": "all", "value": 50.0, "state": "finite", "precision": 2.0},
    {"layer": 4, "position": "all", "value": null, "state": "undefined"}
   ]
  }
 ]
}
"""


@pytest.fixture
def snapshot() -> Snapshot:
    return loads(TEXT, FILE)


def put(thing: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """Return a document with one entry replaced."""
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(key, int):
        return (*thing[:key], put(thing[key], rest, value), *thing[key + 1 :])
    if is_dataclass(thing):
        return replace(thing, **{key: put(getattr(thing, key), rest, value)})
    return {**thing, key: put(thing.get(key), rest, value)}


BASELINE = ("curves", 0, "baseline")
FIRST = ("curves", 0, "recoveries", 0)
SECOND = ("curves", 0, "recoveries", 1)


def cell(layer: int, value: float | None, state: str = "finite", **more: Any) -> SnapshotCell:
    return SnapshotCell(**{"layer": layer, "position": "all", "value": value, "state": State(state), **more})


def test_the_document_names_what_the_file_holds(snapshot: Snapshot) -> None:
    assert (snapshot.holds, snapshot.backend, snapshot.tolerance) == ("c native@m", CPU, SnapshotTolerance(0.5, 0.01))
    assert snapshot.curves[0].key == ("mlp_out", "l2")
    sites = [snapshot.curves[0].site(each) for each in snapshot.curves[0].recoveries]
    assert sites == [Site("mlp_out", 3), Site("mlp_out", 4)]
    assert dumps(snapshot) == TEXT


@pytest.mark.parametrize("file", STORED, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_stored_snapshot_is_written_back_to_the_byte(file: Path) -> None:
    assert dumps(read(file)).encode() == file.read_bytes()


def test_there_are_stored_snapshots() -> None:
    assert len(STORED) > 50


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("path", [(*FIRST, "precision"), ("tolerance", "recovery_points"), ("provenance", "extra")])
def test_a_number_that_is_not_finite_is_refused(snapshot: Snapshot, path: tuple[str, ...], value: float) -> None:
    poisoned = put(snapshot, path, value)
    with pytest.raises(SnapshotRefused):
        dumps(poisoned)
    with pytest.raises(SnapshotRefused):
        JobSnapshot(FILE).serialize(poisoned)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("path", [BASELINE, FIRST])
def test_a_reading_has_no_value_that_is_not_finite(snapshot: Snapshot, path: tuple[str, ...], value: float) -> None:
    with pytest.raises(ValueError, match="a reading of"):
        put(snapshot, (*path, "value"), value)


@pytest.mark.parametrize("state", ["nan", "inf"])
@pytest.mark.parametrize(("path", "where"), [(BASELINE, "baseline"), (FIRST, "layer 3")], ids=["baseline", "recovery"])
def test_a_reading_that_is_not_finite_is_refused_by_name(
    snapshot: Snapshot, path: tuple[str, ...], where: str, state: str
) -> None:
    inner: Any = snapshot
    for key in path:
        inner = inner[key] if isinstance(key, int) else getattr(inner, key)
    poisoned = put(snapshot, path, replace(inner, value=None, state=State(state)))
    with pytest.raises(SnapshotRefused, match=f"mlp_out l2 {where} is {state}"):
        JobSnapshot(FILE).serialize(poisoned)


def test_an_undefined_recovery_may_be_stored(snapshot: Snapshot) -> None:
    assert loads(JobSnapshot(FILE).serialize(snapshot), FILE) == snapshot


def swap(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


VALUE = '"value": 50.0'
UNREADABLE: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "half": (lambda text: text[: len(text) // 2], "Invalid JSON: EOF"),
    "empty": (lambda _: "", "Invalid JSON: EOF"),
    "no JSON": (swap("{", "["), "Invalid JSON"),
    "deep": (lambda _: "[" * 100_000, "Invalid JSON: recursion limit"),
    "binary": (lambda _: bytes(range(128, 256)), "Invalid JSON"),
    "another encoding": (lambda text: swap('"c"', '"é"')(text).encode("latin-1"), "Invalid JSON: invalid unicode"),
    "list": (lambda _: "[]", "should be an object"),
    "number": (lambda _: "3", "should be an object"),
    "null": (lambda _: "null", "should be an object"),
    "no schema": (lambda _: '{"curves": null}', "schema: Field required"),
    "another schema": (swap("snapshot/1", "snapshot/2"), "its schema is mlx-patch-harness/snapshot/2; this version"),
    "no curves": (swap('"curves"', '"lines"'), "curves: Field required"),
    "no layer": (swap('"layer": 3, ', ""), "curves.0.recoveries.0.layer: Field required"),
    "text for a number": (swap(VALUE, '"value": "50"'), "recoveries.0.value: Input should be a valid number"),
    "truth for a number": (swap(VALUE, '"value": true'), "recoveries.0.value: Input should be a valid number"),
    "text for a layer": (swap('"layer": 3', '"layer": "3"'), "layer: Input should be a valid integer"),
    "number for a position": (swap('"all"', "0"), "position: Input should be a valid string"),
    "unknown state": (swap('"undefined"', '"lost"'), "recoveries.1.state: Input should be 'finite'"),
    "NaN": (swap(VALUE, '"value": NaN'), "value: Input should be a finite number"),
    "Infinity": (swap(VALUE, '"value": -Infinity'), "value: Input should be a finite number"),
    "beyond float64": (swap(VALUE, '"value": 1e400'), "value: Input should be a finite number"),
    "NaN in an error bar": (swap('"precision": 2.0', '"precision": NaN'), "precision: Input should be a finite number"),
    "NaN in a tolerance": (swap("0.5", "NaN"), "tolerance.recovery_points: Input should be a finite number"),
    "a value and none": (swap("null", "1.0"), "a reading of 1.0 cannot be undefined"),
    "stored nan": (swap('null, "state": "undefined"', 'null, "state": "nan"'), "mlp_out l2 layer 4 is nan"),
    "one site twice": (swap('"layer": 4', '"layer": 3'), "mlp_out l2 layer 3 stands in it twice"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_is_no_snapshot_is_unreadable_with_its_file_and_reason(tmp_path: Path, kind: str) -> None:
    edit, why = UNREADABLE[kind]
    made = edit(TEXT)
    file = tmp_path / f"native@m.{CPU}.json"
    file.write_bytes(made if isinstance(made, bytes) else made.encode())
    with pytest.raises(SnapshotUnreadable) as error:
        read(file)
    assert str(error.value) == f"{file} cannot be read as a snapshot ({error.value.reason})"
    assert why in error.value.reason
    assert "\n" not in error.value.reason


def test_a_folder_and_a_file_that_is_not_there_are_unreadable(tmp_path: Path) -> None:
    with pytest.raises(SnapshotUnreadable, match="is a folder"):
        read(tmp_path)
    with pytest.raises(SnapshotUnreadable, match="does not exist"):
        read(tmp_path / "none")


def test_an_unreadable_file_is_not_replaced_and_one_of_another_version_is() -> None:
    matches = partial(JobSnapshot(FILE).matches, serialized_data=TEXT)
    assert matches(snapshot_data=TEXT)
    assert not matches(snapshot_data=TEXT.replace("snapshot/1", "snapshot/0"))
    for unreadable in (TEXT[:-9], TEXT.replace("mlx-patch-harness/snapshot/1", "another/1")):
        with pytest.raises(SnapshotUnreadable):
            matches(snapshot_data=unreadable)


def test_two_backends_stand_side_by_side() -> None:
    places = [SnapshotPlace("c", Path("/c.case.yaml"), "native@m", "native", "m", name) for name in (CPU, METAL)]
    made = [JobSnapshot(place.location) for place in places]
    locations = [each.get_location(test_location=None, index=0) for each in made]
    assert locations == [f"/snapshots/c/native@m.{name}.json" for name in (CPU, METAL)]


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ((*FIRST, "value"), 50.4, None),
        ((*FIRST, "value"), 50.6, "mlp_out l2 layer 3"),
        ((*BASELINE, "value"), 10.09, None),
        ((*BASELINE, "value"), 10.2, "mlp_out l2 baseline"),
        ((*BASELINE, "unit"), "nats", "mlp_out l2 baseline"),
        (FIRST, cell(3, None, "zero-baseline", precision=2.0), "mlp_out l2 layer 3"),
        (SECOND, cell(4, 0.0), "mlp_out l2 layer 4"),
        (SECOND, cell(4, None, "zero-baseline"), "mlp_out l2 layer 4"),
        ((*FIRST, "precision"), 2.4, None),
        ((*FIRST, "precision"), -2.0, "mlp_out l2 layer 3 error bar"),
        ((*FIRST, "precision"), None, "mlp_out l2 layer 3 error bar"),
        ((*FIRST, "position"), "last", "mlp_out l2 layer 3"),
        ((*FIRST, "head"), 0, "mlp_out l2 layer 3"),
        (("curves",), (), "mlp_out l2 baseline"),
        (("tolerance", "recovery_points"), 5.0, "tolerance"),
        (("engine",), "legacy", "engine"),
        (("tokens", "clean"), (3,), "tokens"),
        (("provenance", "backend"), METAL, None),
        (("verdict", "status"), "failed", None),
    ],
)
def test_differences(snapshot: Snapshot, path: tuple[str, ...], value: Any, where: str | None) -> None:
    changed = put(snapshot, path, value)
    for old, new in ((snapshot, changed), (changed, snapshot)):
        if path != ("tolerance", "recovery_points") or new is changed:
            found = differences(old, new)
            assert bool(found) == (where is not None), found
            assert where is None or where in {str(each.where) for each in found}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ((*FIRST, "value"), 53.0, "mlp_out l2 layer 3: 50 -> 53 (+3 points)"),
        ((*BASELINE, "value"), 11.0, "mlp_out l2 baseline: 10 -> 11 (+10 %)"),
        ((*FIRST, "precision"), 4.0, "mlp_out l2 layer 3 error bar: 2 -> 4 (+2 points)"),
        (SECOND, cell(4, 1.0), "mlp_out l2 layer 4: undefined -> 1.0"),
        (("tokens", "clean"), (3,), "tokens: {'clean': [1], 'corrupted': [2]} -> {'clean': [3], 'corrupted': [2]}"),
        (("case",), "d", "case: c -> d"),
    ],
)
def test_how_a_difference_reads(snapshot: Snapshot, path: tuple[str, ...], value: Any, said: str) -> None:
    assert [str(each) for each in differences(snapshot, put(snapshot, path, value))] == [said]


def test_a_difference_is_at_a_site_and_not_at_a_label(snapshot: Snapshot) -> None:
    grid = put(snapshot, (*FIRST[:-1],), tuple(cell(0, 1.0, head=head, position=at) for head in (0, 1) for at in "01"))
    changed = put(grid, (*FIRST[:-1], 2, "value"), 9.0)
    (found,) = differences(grid, changed)
    assert (found.where.site, str(found.where)) == (
        Site("mlp_out", 0, "0", 1),
        "mlp_out l2 layer 0, head 1, position 0",
    )


def test_what_another_program_makes_of_the_numbers_is_the_same_document(snapshot: Snapshot) -> None:
    """Whole numbers without a point, and a head that is none."""
    other = TEXT.replace("50.0", "50").replace('"layer": 3,', '"layer": 3, "head": null,')
    assert other != TEXT
    assert differences(loads(other, FILE), snapshot) == []
    (found,) = differences(loads(other, FILE), put(snapshot, (*FIRST, "value"), 53.0))
    assert found.change == "+3 points"


def test_nan_equals_nothing_not_even_itself(snapshot: Snapshot) -> None:
    poisoned = put(snapshot, FIRST, cell(3, None, "nan", precision=NAN))
    found = [str(each.where) for each in differences(poisoned, poisoned)]
    assert found == ["mlp_out l2 layer 3", "mlp_out l2 layer 3 error bar"]


def test_a_tolerance_given_replaces_both(snapshot: Snapshot) -> None:
    changed = put(put(snapshot, (*FIRST, "value"), 54.0), ("tolerance", "recovery_points"), 9.0)
    assert differences(snapshot, changed, SnapshotTolerance(5.0, 0.05)) == []
    assert differences(snapshot, changed, SnapshotTolerance(3.0, 0.05)) != []


@pytest.mark.parametrize(
    ("file", "folder"),
    [("cases/a.case.yaml", "snapshots"), ("mine/a.case.yaml", "mine/snapshots"), ("a.case.yaml", "snapshots")],
)
def test_snapshots_live_beside_the_cases(tmp_path: Path, file: str, folder: str) -> None:
    assert folder_of(tmp_path / file) == tmp_path / folder


def test_the_file_of_a_job(tmp_path: Path) -> None:
    file = location_of(tmp_path / "cases" / "a.case.yaml", "mine.engine:run@tiny", METAL)
    assert file == tmp_path / "snapshots" / "a" / f"mine.engine+run@tiny.{METAL}.json"


def test_one_reading_a_line(snapshot: Snapshot) -> None:
    lines = dumps(snapshot).splitlines()
    assert sum('"layer"' in line for line in lines) == 2
    assert max(map(len, lines)) <= 120


def test_the_error_bar_of_a_recovery_is_in_the_document() -> None:
    plain = curve(50.0, 25.0)
    barred = replace(plain, cells=(replace(plain.cells[0], precision=-1.25), plain.cells[1]))
    (stored,) = json.loads(dumps(snapshot_of(job(curves=(barred,)), HERE, SnapshotTolerance(0.5, 0.01))))["curves"]
    assert [each.get("precision") for each in stored["recoveries"]] == [-1.25, None]
    assert "precision" not in stored["recoveries"][1]
