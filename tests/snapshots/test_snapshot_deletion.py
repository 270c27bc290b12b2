"""No run deletes a snapshot, through either door: each way here was seen to delete good ones with stock settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import HERE, Project

UPDATE = "--snapshot-update"
ORDINARY = """\
import pytest

@pytest.mark.parametrize("n", [1, 2])
def test_ordinary(n, snapshot):
    assert n == snapshot
"""


@pytest.fixture
def eight(project: Project) -> Project:
    """Two cases with four stored jobs each, a file of a job that is gone, and one written by hand."""
    for case in ("a", "b"):
        project.case(case, models="good, other", engines="native, published")
    assert project.run_inside(UPDATE).code == 0
    project.write(f"snapshots/a/native@gone.{HERE}.json", project.snapshot(case="a").read_text(encoding="utf-8"))
    project.write("snapshots/README", "by hand")
    assert len(project.snapshots) == 10
    return project


def narrowed_case(project: Project) -> None:
    project.case("a")


def failing_case(project: Project) -> None:
    project.case("a", models="good, other", engines="native, published", component="attn_out")


def lost_case(project: Project) -> None:
    (project.folder / "cases" / "a.case.yaml").unlink()


# what is done to the project, and the arguments of `harness run` and of pytest
NARROWED = {
    "everything": (None, (), ("cases",)),
    "keyword": (None, ("-k", "other"), ("cases", "-k", "other")),
    "nothing-matches": (None, ("-k", "nothing"), ("cases", "-k", "nothing")),
    "tag-or-mark": (None, ("-t", "fast", "-k", "good"), ("cases", "-m", "not slow", "-k", "good")),
    "model": (None, ("--model", "other"), ("cases", "-k", "other")),
    "engine": (None, ("-e", "published"), ("cases", "-k", "published")),
    "job": (None, ("--job", "a[native@good]"), ("cases/a.case.yaml::job[native@good]",)),
    "file": (None, ("cases/b.case.yaml",), ("cases/b.case.yaml",)),
    "shard": (None, ("--shard", "1/3"), ("cases", "--harness-shard=1/3")),
    "narrowed-case-file": (narrowed_case, (), ("cases",)),
    "narrowed-case-file-and-no-path": (narrowed_case, (), ()),
    "case-file-gone": (lost_case, (), ("cases",)),
    "case-file-gone-and-no-path": (lost_case, (), ()),
    "failing": (failing_case, (), ("cases",)),
    "exitfirst": (failing_case, ("-x",), ("cases", "-x")),
}


@pytest.mark.parametrize("door", ["run", "pytest"])
@pytest.mark.parametrize("way", NARROWED)
def test_a_narrowed_or_failing_update_deletes_and_changes_nothing(eight: Project, way: str, door: str) -> None:
    prepare, ours, pytests = NARROWED[way]
    for case in ("a", "b"):
        file = eight.folder / "cases" / f"{case}.case.yaml"
        file.write_text(file.read_text() + "tags: [fast]\n")
    if prepare:
        prepare(eight)
    before = eight.snapshots
    got = eight.run_inside(UPDATE, *ours) if door == "run" else eight.pytest_inside(UPDATE, *pytests, where=())
    assert got.code == {"nothing-matches": 5, "failing": 4, "exitfirst": 4}.get(way, 0), got.out + got.err
    assert eight.snapshots == before


@pytest.mark.slow
@pytest.mark.parametrize("door", ["run", "pytest"])
@pytest.mark.parametrize("way", ["model", "exitfirst", "narrowed-case-file"])
def test_nor_do_two_workers(eight: Project, way: str, door: str) -> None:
    prepare, ours, pytests = NARROWED[way]
    if prepare:
        prepare(eight)
    before = eight.snapshots
    eight.run(UPDATE, "-n", "2", *(ours if door == "run" else pytests[1:]), door=door)
    assert eight.snapshots == before


def names(ordinary: Path) -> list[str]:
    return [line.split()[-1] for line in ordinary.read_text().splitlines() if line.startswith("# name")]


@pytest.mark.parametrize("chosen", [(), ("-k", "good or 1"), ("-k", "other"), ("-x",)], ids=" ".join)
def test_beside_ordinary_snapshot_tests(eight: Project, chosen: tuple[str, ...]) -> None:
    eight.write("tests/test_ordinary.py", ORDINARY)
    both = ("tests", "cases")
    assert eight.pytest_inside(UPDATE, where=both).code == 0
    before = eight.snapshots
    assert eight.pytest_inside(UPDATE, *chosen, where=both).code == 0
    assert names(eight.folder / "tests" / "__snapshots__" / "test_ordinary.ambr") == [
        "test_ordinary[1]", "test_ordinary[2]"
    ]  # fmt: skip
    assert eight.snapshots == before


def test_syrupy_goes_on_looking_after_its_own(eight: Project) -> None:
    """What an ordinary test gave up is removed, as ever; what a case gave up is not."""
    test = eight.write("tests/test_ordinary.py", ORDINARY)
    assert eight.pytest_inside(UPDATE, where=("tests", "cases")).code == 0
    narrowed_case(eight)
    before = eight.snapshots
    test.write_text(ORDINARY.replace("[1, 2]", "[1]"))
    assert eight.run(UPDATE, "tests", door="pytest").code == 0
    assert names(eight.folder / "tests" / "__snapshots__" / "test_ordinary.ambr") == ["test_ordinary[1]"]
    assert eight.snapshots == before
