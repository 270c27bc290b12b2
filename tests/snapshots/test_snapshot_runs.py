"""Snapshots through `harness run`: what is stored, what is compared, and what nothing ever writes or deletes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from project import HERE, Project

UPDATE = "--snapshot-update"
UNIT = '"unit": "logits"'


@pytest.fixture
def stored(project: Project) -> Project:
    """A project with the case `good`, its snapshot stored."""
    project.case("good")
    assert project.run_inside(UPDATE).code == 0
    return project


def change(file: Path, edit: Callable[[str], str]) -> bytes:
    before = file.read_text(encoding="utf-8")
    file.write_text(edit(before), encoding="utf-8")
    assert file.read_text(encoding="utf-8") != before
    return file.read_bytes()


def test_without_a_snapshot_a_run_warns_and_writes_none(project: Project) -> None:
    project.case("good")
    got = project.run_inside()
    assert (got.code, got.codes) == (0, {"SNP002"})
    assert "store one with --snapshot-update" in got.out
    assert project.snapshots == {}


def test_update_stores_and_the_next_run_passes_untouched(stored: Project) -> None:
    before = stored.snapshots
    assert list(before) == [f"snapshots/good/native@good.{HERE}.json"]
    got = stored.run_inside("--strict")
    assert (got.code, got.codes) == (0, set())
    assert stored.snapshots == before


def test_a_snapshot_holds_the_verdict_and_does_not_compare_it(stored: Project) -> None:
    assert stored.stored()["verdict"] == {"status": "passed", "findings": []}
    change(stored.snapshot(), lambda text: text.replace('"findings": []', '"findings": ["SNP002"]'))
    assert stored.run_inside().codes == set()


def test_a_snapshot_holds_the_closed_form_and_where_it_comes_from(stored: Project) -> None:
    """A dial recovers 100 (1 - |1 - w|) percent in L2 and 100 (1 - (1 - w)^2) in MSE, for w = 0.5 and 0.25."""
    document = stored.stored()
    percent = {curve["metric"]: [cell["value"] for cell in curve["recoveries"]] for curve in document["curves"]}
    assert (percent["l2"], percent["mse"]) == ([50.0, 25.0], [75.0, 43.75])
    assert {cell["state"] for curve in document["curves"] for cell in curve["recoveries"]} == {"finite"}
    assert (document["model"], document["engine"]) == ("good", "native")
    assert document["tokens"] == {"clean": [0], "corrupted": [1]}
    assert {"harness", "backend", "device", "mlx", "mlx-lm"} <= set(document["provenance"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"value": 50.0', '"value": 50.2', "mlp l2 layer 0: 50.2 -> 50 (-0.2 points)"),
        (
            f'7.416198, {UNIT}, "state": "finite"',
            f'null, {UNIT}, "state": "undefined"',
            "mlp l2 baseline: undefined -> 7.4",
        ),
        ('"layer": 1', '"layer": 7', "mlp l2 layer 7: 25.0 -> absent"),
        ('"clean": [0]', '"clean": [4]', "tokens: "),
        ('"metric": "l2"', '"metric": "l3"', "mlp l3 baseline: "),
    ],
    ids=["recovery", "state", "layer", "tokens", "metric"],
)
def test_a_change_beyond_the_tolerance_is_found_with_the_difference(
    stored: Project, old: str, new: str, said: str
) -> None:
    planted = change(stored.snapshot(), lambda text: text.replace(old, new))
    got = stored.run_inside()
    assert (got.code, got.codes) == (1, {"SNP001"})
    assert said in " ".join(got.out.split())
    assert stored.snapshot().read_bytes() == planted


@pytest.mark.parametrize(
    ("old", "new"),
    [('"value": 50.0', '"value": 50.008'), ('"value": 7.416198', '"value": 7.416346')],
    ids=["0.008 points of 0.01", "2e-5 of 2.5e-5"],
)
def test_update_within_the_tolerance_leaves_the_file_alone(stored: Project, old: str, new: str) -> None:
    change(stored.snapshot(), lambda text: text.replace(old, new))
    before = stored.snapshots
    assert stored.run_inside().codes == set()
    assert stored.run_inside(UPDATE).code == 0
    assert stored.snapshots == before


def test_just_beyond_the_tolerance_is_a_difference(stored: Project) -> None:
    change(stored.snapshot(), lambda text: text.replace('"value": 50.0', '"value": 50.012'))
    assert stored.run_inside().codes == {"SNP001"}


def test_update_stores_what_moved(stored: Project) -> None:
    right = stored.snapshot().read_bytes()
    change(stored.snapshot(), lambda text: text.replace('"value": 50.0', '"value": 51.0'))
    assert stored.run_inside(UPDATE).code == 0
    assert stored.snapshot().read_bytes() == right


def test_a_difference_names_the_versions_that_differ(stored: Project) -> None:
    mlx = stored.stored()["provenance"]["mlx"]
    old = f'"mlx": "{mlx}"'
    change(stored.snapshot(), lambda text: text.replace(old, '"mlx": "0.1"'))
    assert stored.run_inside().codes == set()
    change(stored.snapshot(), lambda text: text.replace('"value": 50.0', '"value": 51.0'))
    assert f"stored with mlx 0.1, now {mlx}" in " ".join(stored.run_inside().out.split())


def test_loosening_the_tolerance_is_a_change(stored: Project) -> None:
    stored.case("good", more="tolerance: {recovery_points: 90}\n")
    got = stored.run_inside()
    assert (got.code, got.codes) == (1, {"SNP001"})
    assert "tolerance" in got.out


CORRUPT = {
    "half": lambda good: good[: len(good) // 2],
    "empty": lambda _: b"",
    "list": lambda _: b"[]",
    "number": lambda _: b"3",
    "null-curves": lambda _: b'{"curves": null}',
    "text-values": lambda good: good.replace(b'"value": 50.0', b'"value": "50"'),
    "text-layer": lambda good: good.replace(b'"layer": 0', b'"layer": "0"'),
    # As a merge of two branches leaves it, both lines kept: the second agrees.
    "one-site-twice": lambda good: re.sub(rb'( *\{"layer": 0, .*"value": )50.0(.*)', rb"\g<1>53.0\2\n\g<0>", good),
    "bare-nan": lambda good: good.replace(b'"value": 50.0', b'"value": NaN'),
    "binary": lambda _: bytes(range(128, 256)),
    "deep": lambda _: b"[" * 100_000,
}


@pytest.mark.parametrize("kind", CORRUPT)
def test_a_corrupt_snapshot_is_a_located_finding(stored: Project, kind: str) -> None:
    stored.snapshot().write_bytes(CORRUPT[kind](stored.snapshot().read_bytes()))
    before = stored.snapshots
    got = stored.run_inside()
    assert (got.code, got.codes) == (1, {"SNP001"})
    assert str(stored.snapshot()) in got.out.replace("\n", "")
    assert "Traceback" not in got.out + got.err
    assert stored.snapshots == before


@pytest.mark.parametrize("kind", ["half", "binary"])
def test_update_does_not_replace_what_it_cannot_read(stored: Project, kind: str) -> None:
    stored.snapshot().write_bytes(CORRUPT[kind](stored.snapshot().read_bytes()))
    before = stored.snapshots
    got = stored.run_inside(UPDATE)
    assert got.code == 1
    assert "restore or remove it" in " ".join(got.out.split())
    assert stored.snapshots == before


def test_nothing_that_is_not_finite_is_stored(project: Project) -> None:
    """Token b of the dial `nan` has a NaN in its logits: the finding is expected, the number is still no snapshot."""
    project.case("free", models="nan", more="expect: {may_find: [FIN002, FIN003, FIN004, FIN005]}\n")
    project.case("demanded", models="nan", more="expect: {findings: [FIN002], may_find: [FIN003, FIN004, FIN005]}\n")
    project.case("strict", models="nan")
    got = project.run_inside(UPDATE)
    assert got.statuses == {
        "demanded[native@nan]": "passed", "free[native@nan]": "failed", "strict[native@nan]": "failed"
    }  # fmt: skip
    assert "SNP004" in got.codes
    assert project.snapshots == {}


def test_a_failing_job_is_not_stored(project: Project) -> None:
    project.case("c", models="wide", engines="legacy, native")
    assert project.run_inside(UPDATE).code == 1
    assert list(project.snapshots) == [f"snapshots/c/native@wide.{HERE}.json"]


@pytest.mark.parametrize(("door", "workers"), [("run", "0"), ("run", "2"), ("pytest", "0"), ("pytest", "2")])
def test_ci_refuses_to_update(project: Project, door: str, workers: str) -> None:
    project.case("good")
    got = project.run(UPDATE, "-n", workers, door=door, CI="1")
    assert (got.code, got.result, project.snapshots) == (4, None, {})
    assert "CI is set" in got.out + got.err


def test_ci_compares(stored: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    assert stored.run_inside("--strict").code == 0
    change(stored.snapshot(), lambda text: text.replace('"value": 50.0', '"value": 50.2'))
    assert stored.run_inside().codes == {"SNP001"}
