"""`harness snapshots status`, `update` and `prune`: what is stored, what is not, and what belongs to nobody."""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from pathlib import Path

import pytest
from project import ELSEWHERE, HERE, Outcome, Project

from harness.environment import facts as environment
from harness.jobs import case_files

UPDATE = "--snapshot-update"


@pytest.fixture
def stored(project: Project) -> Project:
    project.case("good")
    assert project.run_inside(UPDATE).code == 0
    return project


def snapshots(project: Project, command: str, *args: str | Path) -> Outcome:
    return project.inside("snapshots", command, "--models", project.folder / "m.yaml", *args)


def states(project: Project, *args: str) -> tuple[int, dict[str, str]]:
    got = snapshots(project, "status", "--json", *args)
    return got.code, {row["job"] or Path(row["file"]).name: row["state"] for row in json.loads(got.out)}


def edit(project: Project, old: str, new: str) -> None:
    text = project.snapshot().read_text(encoding="utf-8")
    assert old in text
    project.snapshot().write_text(text.replace(old, new), encoding="utf-8")


def test_stored(stored: Project) -> None:
    assert states(stored) == (0, {"good[native@good]": "stored"})
    assert f"1 stored (backend {HERE})" in snapshots(stored, "status").out


VARIED = "matrix: {direction: [denoising, noising]}\n"


def test_the_variants_of_a_case_are_stored(project: Project) -> None:
    project.case("v", more=VARIED)
    assert project.run_inside(UPDATE).code == 0
    assert states(project) == (0, {"v.denoising[native@good]": "stored", "v.noising[native@good]": "stored"})
    names = ("denoising", "noising")
    files = [project.folder / "snapshots" / "v" / f"{name}~native@good.{HERE}.json" for name in names]
    files[0].replace(files[1])
    assert states(project)[1] == {"v.denoising[native@good]": "missing", "v.noising[native@good]": "stale"}


def test_update_replaces_a_snapshot_of_another_version(stored: Project) -> None:
    right = stored.snapshot().read_bytes()
    edit(stored, "snapshot/1", "snapshot/0")
    assert stored.run_inside().codes == {"SNP001"}
    assert snapshots(stored, "update", "--missing").code == 0
    assert stored.snapshot().read_bytes() == right


def test_missing_and_jobs_that_store_nothing(stored: Project) -> None:
    stored.case("good", models="good, other")
    stored.case("fails", more="expect: {findings: [ORC001]}\n")
    stored.case("none", more="checks: [oracle]\n")
    code, rows = states(stored)
    assert code == 1
    assert rows == {
        "good[native@good]": "stored", "good[native@other]": "missing", "fails[native@good]": "none",
        "none[native@good]": "none",
    }  # fmt: skip
    assert states(stored, "--model", "good")[0] == 0
    (command,) = re.findall(r"missing: store them with `harness (.*)`", snapshots(stored, "status", "cases").out)
    assert command == f"snapshots update --missing cases --models {stored.folder / 'm.yaml'}"
    assert stored.inside(*shlex.split(command)).code == 0
    assert "missing" not in states(stored)[1].values()


@pytest.mark.parametrize(
    ("more", "old", "new", "why"),
    [
        ("tolerance: {recovery_points: 1}\n", "", "", "another tolerance"),
        ("metrics: [l2, mse]\n", "", "", "the case has no mlp cosine"),
        ("metrics: [l2, mse, cosine, kl_divergence]\n", "", "", "it has no mlp kl_divergence"),
        ("", '"schema": "mlx-patch-harness/snapshot/1"', '"schema": "mlx-patch-harness/snapshot/0"', "its schema is"),
        ("", '"model": "good"', '"model": "other"', "it holds good native@other"),
        ("", '"layer": 1', '"layer": 0', "cannot be read: Value error, mlp l2 layer 0 stands in it twice"),
        ("", '"curves"', '"lines"', "cannot be read: curves: Field required"),
        ("", "{", "[", "cannot be read: Invalid JSON"),
    ],
    ids=["tolerance", "metric gone", "metric new", "schema", "model", "one site twice", "no curves", "half"],
)
def test_stale_and_why(stored: Project, more: str, old: str, new: str, why: str) -> None:
    stored.case("good", more=more)
    if old:
        edit(stored, old, new)
    assert states(stored) == (1, {"good[native@good]": "stale"})
    assert why in " ".join(snapshots(stored, "status").out.split())


def test_a_waiting_candidate(stored: Project) -> None:
    edit(stored, '"value": 50.0', '"value": 53.0')
    stored.run_inside()
    assert states(stored) == (1, {"good[native@good]": "candidate"})


def test_a_backend_that_is_compared_with_another_is_in_order(stored: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "backend", lambda: ELSEWHERE)
    assert states(stored) == (0, {"good[native@good]": "elsewhere"})


def test_update_runs_what_stores_numbers_and_nothing_else(stored: Project) -> None:
    stored.case("good", models="good, other")
    stored.case("fails", more="expect: {findings: [ORC001]}\n")
    got = snapshots(stored, "update")
    assert got.code == 0
    assert "2 passed" in got.out
    assert list(stored.snapshots) == [f"snapshots/good/native@{model}.{HERE}.json" for model in ("good", "other")]
    assert snapshots(stored, "update", "cases/fails.case.yaml").code == 5


def test_update_missing_runs_only_those(stored: Project) -> None:
    stored.case("good", models="good, other")
    before = stored.snapshots
    got = snapshots(stored, "update", "--missing")
    assert "1 passed" in got.out
    assert before.items() < stored.snapshots.items()
    again = snapshots(stored, "update", "--missing")
    assert (again.code, again.err) == (5, "harness: every selected job has its snapshot\n")


def test_update_keeps_to_the_selection(stored: Project) -> None:
    stored.case("good", models="good, other", engines="native, published")
    assert snapshots(stored, "update", "--model", "other", "-e", "published").code == 0
    assert len(stored.snapshots) == 2


STRAY = f"snapshots/good/native@gone.{HERE}.json"


@pytest.fixture
def strays(stored: Project) -> Project:
    """Beside a stored job: a snapshot without a job, a killed writer's leftover, and files that are not ours."""
    text = stored.snapshot().read_text(encoding="utf-8")
    stored.write(STRAY, text)
    stored.write(f"snapshots/gone-case/native@good.{HERE}.json", text)
    leftover = stored.write(f"snapshots/good/.native@good.{HERE}.json.a1b2c3d4", "half")
    os.utime(leftover, (time.time() - 7200,) * 2)
    for name in KEPT:
        stored.write(name, "{}")
    stored.write(f"snapshots/good/native@good.{ELSEWHERE}.json", text)
    (stored.folder / "snapshots" / "good" / f"native@link.{HERE}.json").symlink_to(stored.snapshot())
    return stored


KEPT = (
    "snapshots/README.json",
    "snapshots/good/README.json",
    "snapshots/good/notes",
    "snapshots/good/native@gone.json",
    f"snapshots/good/native@handmade.{HERE}.json",
    f"snapshots/good/.native@good.{HERE}.json.e5f6a7b8",
    f"snapshots/good/deeper/native@gone.{HERE}.json",
    f"elsewhere/snapshots/good/native@gone.{HERE}.json",
)
ORPHANS = {STRAY, f"snapshots/gone-case/native@good.{HERE}.json", f"snapshots/good/.native@good.{HERE}.json.a1b2c3d4"}


def files(project: Project) -> set[str]:
    found = (file.relative_to(project.folder) for file in project.folder.rglob("*") if file.is_file())
    return {str(file) for file in found if "snapshots" in file.parts}


def test_status_names_orphans(strays: Project) -> None:
    code, rows = states(strays)
    assert code == 1
    assert {name for name, state in rows.items() if state == "orphan"} == {Path(name).name for name in ORPHANS}


@pytest.mark.parametrize("args", [("--yes",), ("--yes", "cases"), ("-y", ".")])
def test_prune_removes_orphans_and_nothing_else(strays: Project, args: tuple[str, ...]) -> None:
    before = files(strays)
    got = snapshots(strays, "prune", *args)
    assert got.code == 0
    assert before - files(strays) == ORPHANS
    assert all(name in got.out for name in ORPHANS)
    assert not (strays.folder / "snapshots" / "gone-case").exists()
    assert snapshots(strays, "prune").out == "no snapshot is without a job\n"


def test_prune_lists_first_and_asks(strays: Project) -> None:
    before = files(strays)
    for answer, left in (("n\n", before), ("y\n", before - ORPHANS)):
        got = strays.run_with_input(answer, "snapshots", "prune", "--models", "m.yaml")
        assert STRAY in got.out
        assert files(strays) == left
        assert got.code == (0 if answer == "y\n" else 1)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("cases/good.case.yaml",), "prune looks at whole folders"),
        (("-m", "good"), "No such option"),
        (("--engine", "native"), "No such option"),
        (("-k", "good"), "No such option"),
    ],
)
def test_prune_refuses_a_narrowed_selection(strays: Project, args: tuple[str, ...], said: str) -> None:
    before = files(strays)
    got = snapshots(strays, "prune", "--yes", *args)
    assert (got.code, files(strays)) == (4, before)
    assert said in got.err


def test_prune_refuses_in_ci(strays: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "1")
    before = files(strays)
    assert snapshots(strays, "prune", "--yes").code == 4
    assert files(strays) == before


@pytest.mark.parametrize("fault", ["bad-case-file", "unknown-model"])
def test_prune_refuses_while_a_case_file_cannot_be_planned(strays: Project, fault: str) -> None:
    """Whose snapshots they are is not known then."""
    strays.case("good", models="goood") if fault == "unknown-model" else strays.case("b", more="metrics: [l3]\n")
    before = files(strays)
    assert snapshots(strays, "prune", "--yes").code == 4
    assert files(strays) == before


def test_prune_knows_the_case_files_beside_a_folder_of_cases(stored: Project) -> None:
    """`x.case.yaml` and `cases/y.case.yaml` share one folder of snapshots; neither is forgotten."""
    (stored.folder / "cases" / "good.case.yaml").rename(stored.folder / "good.case.yaml")
    stored.case("other")
    before = files(stored)
    assert snapshots(stored, "prune", "--yes", "cases").out == "no snapshot is without a job\n"
    assert files(stored) == before


def test_prune_refuses_what_a_forgotten_table_may_account_for(project: Project) -> None:
    project.case("good", models='"oth*", "dial-tiny-f32"')
    assert project.run_inside(UPDATE).code == 0
    project.case("good", models='"dial-tiny-f3*"')
    edit_schema = project.snapshot(job="native@other")
    for version in ("snapshot/1", "snapshot/0"):
        edit_schema.write_text(edit_schema.read_text(encoding="utf-8").replace("snapshot/1", version), encoding="utf-8")
        before = files(project)
        got = project.inside("snapshots", "prune", "--yes")  # without --models
        assert (got.code, files(project)) == (4, before)
        assert "no table here has other" in got.err
        assert "--gone other" in got.err
    assert project.inside("snapshots", "prune", "--yes", "--gone", "wide").code == 4
    assert project.inside("snapshots", "prune", "--yes", "--gone", "other").code == 0
    assert files(project) == {f"snapshots/good/native@dial-tiny-f32.{HERE}.json"}


@pytest.mark.parametrize("linked", ["snapshots", "snapshots/good"])
def test_prune_never_follows_a_link_out_of_the_project(strays: Project, linked: str) -> None:
    outside = strays.folder.parent / f"{strays.folder.name}-outside"
    (strays.folder / linked).rename(outside)
    (strays.folder / linked).symlink_to(outside)
    before = sorted(outside.rglob("*"))
    assert snapshots(strays, "prune", "--yes").code == 0
    assert sorted(outside.rglob("*")) == before
    assert {Path(row["file"]).name for row in json.loads(snapshots(strays, "status", "--json").out)} == {
        f"native@good.{HERE}.json"
    }


@pytest.mark.parametrize("command", [("prune", "--yes"), ("review", "--accept-all"), ("update",)])
def test_the_snapshots_of_an_installed_package_are_left_alone(
    stored: Project, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(case_files, "INSTALLED", stored.folder / "cases")
    stored.write(STRAY, stored.snapshot().read_text(encoding="utf-8"))
    before = files(stored)
    got = snapshots(stored, *command, "cases")
    assert (got.code, files(stored)) == (4, before)
    assert "belong to the installed package" in got.err
