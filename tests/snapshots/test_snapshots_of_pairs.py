"""Snapshots of several pairs: the means are stored and compared, and so are how many pairs there are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import example_results as made

from harness.metrics.pairs import mean_of, spread_of
from harness.snapshots import SnapshotTolerance, differences, snapshot_of
from harness.snapshots.document import Snapshot
from harness.snapshots.file import dumps, loads
from harness.vocabulary import AskedPair, Cell, JobResult, Tokens

TOLERANCE = SnapshotTolerance(0.01, 1e-5)


def job(*readings: float | str, first: int = 0) -> JobResult:
    given = [*map(made.reading, readings)]
    mean = mean_of(given)
    cell = Cell(0, "all", mean, mean, pairs=spread_of(given))
    curve = replace(made.curve(), cells=(cell,), pairs=spread_of([made.reading(10.0)] * len(given)))
    pairs = tuple(AskedPair(Tokens((n,), ()), Tokens((n + 1,), ())) for n in range(first, first + len(given)))
    return made.job(curves=(curve,), pairs=pairs)


def snapshot(*readings: float | str, first: int = 0) -> Snapshot:
    return snapshot_of(job(*readings, first=first), made.HERE, TOLERANCE)


def told(old: Snapshot, new: Snapshot) -> list[str]:
    return [str(each).partition(":")[0] for each in differences(old, new)]


def test_a_snapshot_holds_the_mean_the_count_and_no_single_pair() -> None:
    text = dumps(snapshot(10.0, 20.0, "nan"))
    assert '"pairs": 3' in text
    assert '{"layer": 0, "position": "all", "value": 15.0, "state": "finite", "pairs": 2}' in text
    assert "standard_error" not in text
    assert loads(text, Path("a.json")) == snapshot(10.0, 20.0, "nan")


def test_a_pair_that_lost_its_number_is_seen_where_the_mean_stays() -> None:
    whole, less = snapshot(10.0, 20.0, 15.0), snapshot(10.0, 20.0, "zero-baseline")
    assert told(whole, less) == ["mlp_out l2 layer 0 pairs"]
    assert [
        str(each) for each in differences(snapshot(10.0, 10.0, "nan", "nan"), snapshot(10.0, 10.0, 10.0, "nan"))
    ] == ["mlp_out l2 layer 0 pairs: 2 -> 3 (+1)"]


def test_other_pairs_are_told_and_their_order_is_not() -> None:
    assert told(snapshot(10.0, 20.0), snapshot(10.0, 20.0, first=5)) == ["tokens"]
    one = job(10.0, 20.0)
    turned = replace(one, pairs=one.pairs[::-1])
    assert differences(snapshot_of(one, made.HERE, TOLERANCE), snapshot_of(turned, made.HERE, TOLERANCE)) == []


def test_a_mean_that_moved_is_told_like_any_recovery() -> None:
    assert [str(each) for each in differences(snapshot(10.0, 20.0), snapshot(10.0, 21.0))] == [
        "mlp_out l2 layer 0: 15 -> 15.5 (+0.5 points)"
    ]
