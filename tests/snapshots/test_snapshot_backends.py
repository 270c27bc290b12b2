"""A backend without a snapshot is compared with the nearest one, and its numbers wait outside snapshots/."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest
from project import ELSEWHERE, HERE, Project

from harness.environment import facts as environment
from harness.jobs.planning import blank_result, jobs_in, tolerances
from harness.models import load_table
from harness.snapshots import Quantity, SnapshotPlace
from harness.vocabulary import Cell, Curve, Denominator, Reading, Status
from harness.vocabulary.backends import BACKENDS, CPU, CPU_ARM64, CUDA, METAL

UPDATE = "--snapshot-update"


@pytest.fixture
def moved(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The case `good` stored on this backend; from now on this process says it is another backend."""
    project.case("good")
    assert project.run_inside(UPDATE).code == 0
    monkeypatch.setattr(environment, "backend", lambda: ELSEWHERE)
    environment.environment.cache_clear()
    yield project
    environment.environment.cache_clear()


def move(project: Project, old: str, new: str) -> None:
    file = project.snapshot()
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def candidate(project: Project, results: str = "results") -> Path:
    return project.folder / results / "snapshots" / "good" / f"native@good.{ELSEWHERE}.json"


@pytest.mark.parametrize("recovery", ["50.0", "50.009"], ids=["equal", "0.009 points of 0.01"])
def test_within_the_wider_tolerance_it_warns_and_leaves_a_candidate(moved: Project, recovery: str) -> None:
    move(moved, '"value": 50.0', f'"value": {recovery}')
    before = moved.snapshots
    got = moved.run_inside("--strict")
    assert (got.code, got.codes) == (0, {"SNP003"})
    assert moved.snapshots == before
    assert f'"backend": "{ELSEWHERE}"' in candidate(moved).read_text(encoding="utf-8")
    assert '"value": 50.0' in candidate(moved).read_text(encoding="utf-8")


def test_beyond_it_the_job_fails(moved: Project) -> None:
    move(moved, '"value": 50.0', '"value": 50.02')
    got = moved.run_inside("--results", "elsewhere")
    assert (got.code, got.codes) == (1, {"SNP001", "SNP003"})
    assert candidate(moved, "elsewhere").exists()


def test_a_denominator_that_rounding_moves_widens_the_comparison(moved: Project) -> None:
    """logit_diff of the dial: where its gap is a thousand digits of a logit, a recovery moves by tenths of a point."""
    job = jobs_in(moved.folder / "cases" / "good.case.yaml", load_table([moved.folder / "m.yaml"]))[0]
    cell = Cell(0, "all", Reading.of(50.0), Reading.of(50.0))
    zero = Reading.of(1.0)
    for gap, least in ((1.0, 0.01), (1e-3, 0.5)):
        ends = Denominator(gap, 0.0, resolution=1e-5)
        curve = Curve("mlp_out", "logit_diff", "logits", zero, zero, (cell,), denominator=ends)
        given = replace(blank_result(job, Status.PASSED), curves=(curve,))
        here, elsewhere = tolerances(job, given)
        where = Quantity("mlp_out", "logit_diff", curve.site(cell))
        assert here.of(where) == 0.01
        assert elsewhere.of(where) == pytest.approx(max(least, 0.01), rel=0.5)
        assert elsewhere.of(Quantity("mlp_out", "logit_diff")) == pytest.approx(max(1e-5 / gap, 2.5e-5))
        assert elsewhere.of(replace(where, is_error_bar=True)) == elsewhere.of(where)


def test_its_own_snapshot_is_compared_closely(moved: Project) -> None:
    moved.run_inside(UPDATE)
    assert len(moved.snapshots) == 2
    assert moved.run_inside("--strict").code == 0
    file = moved.snapshot(backend=ELSEWHERE)
    file.write_text(file.read_text(encoding="utf-8").replace('"value": 50.0', '"value": 50.2'), encoding="utf-8")
    assert moved.run_inside().codes == {"SNP001"}


def test_a_case_that_allows_more_on_one_backend_allows_no_less_between_two(moved: Project) -> None:
    moved.case("good", more="tolerance: {recovery_points: 10, baseline_relative: 0.3}\n")
    move(moved, '"value": 50.0', '"value": 59.9')
    move(moved, '"value": 7.416198', '"value": 9.5')
    assert moved.run_inside().codes == {"SNP003"}
    move(moved, '"value": 59.9', '"value": 60.1')
    assert moved.run_inside().codes == {"SNP001", "SNP003"}


@pytest.mark.parametrize(
    ("machine", "name"), [("x86_64", CPU), ("AMD64", CPU), ("arm64", CPU_ARM64), ("aarch64", CPU_ARM64)]
)
def test_an_arm_processor_is_a_backend_of_its_own(monkeypatch: pytest.MonkeyPatch, machine: str, name: str) -> None:
    monkeypatch.setattr(environment.platform, "machine", lambda: machine)
    monkeypatch.setattr(mx, "default_device", lambda: mx.cpu)
    assert environment.backend() == name


def test_no_snapshot_anywhere(moved: Project) -> None:
    moved.snapshot().unlink()
    assert moved.run_inside().codes == {"SNP002"}
    assert not candidate(moved).exists()


def test_a_candidate_that_cannot_be_written_is_no_crash(moved: Project) -> None:
    moved.write("taken", "a file where the folder should be")
    got = moved.run_inside("--results", "taken")
    assert (got.code, got.codes) == (0, {"SNP003"})
    assert "candidate: none" in " ".join(got.out.split())


NEAREST = {CPU: CPU_ARM64, CPU_ARM64: CPU, METAL: CPU, CUDA: CPU}


@pytest.mark.parametrize("here", BACKENDS)
def test_a_snapshot_of_any_backend_counts_and_the_nearest_first(tmp_path: Path, here: str) -> None:
    def left(place: SnapshotPlace, *names: str) -> str | None:
        for file in place.location.parent.glob("*"):
            file.unlink()
        for name in names:
            place.on(name).location.write_text("{}", encoding="utf-8")
        found = place.nearest()
        return found and found.backend

    place = SnapshotPlace("c", tmp_path / "c.case.yaml", "native@m", "native", "m", here)
    place.location.parent.mkdir(parents=True)
    assert left(place) is None
    assert left(place, "npu") == "npu"
    assert all(left(place, name) == name for name in BACKENDS)
    assert left(place, *(name for name in BACKENDS if name != here)) == NEAREST[here]
    assert left(place, *BACKENDS) == here


def stored_elsewhere(project: Project, value: str) -> None:
    """Let the snapshot of `good` be another backend's, with this recovery in place of 50."""
    project.case("good")
    project.run_inside(UPDATE)
    text = project.snapshot().read_text(encoding="utf-8").replace(f'"backend": "{HERE}"', f'"backend": "{ELSEWHERE}"')
    project.snapshot().unlink()
    project.snapshot(backend=ELSEWHERE).write_text(text.replace('"value": 50.0', f'"value": {value}'), encoding="utf-8")


@pytest.mark.parametrize("door", ["run", "pytest"])
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "workers"])
def test_numbers_stored_elsewhere_and_edited_fail_through_both_doors(
    project: Project, door: str, workers: tuple[str, ...]
) -> None:
    stored_elsewhere(project, "80.0")
    got = project.run(*workers, door=door)
    assert (got.code, got.codes) == (1, {"SNP001", "SNP003"})
    assert got.result is not None
    (said,) = (each.message for each in got.result.jobs[0].findings if each.code == "SNP003")
    assert said.startswith(f"compared with native@good.{ELSEWHERE}.json")


def test_what_is_compared_with_nothing_is_counted(project: Project) -> None:
    stored_elsewhere(project, "50.0")
    assert "no snapshot" not in project.run_inside("--strict").out.splitlines()[-1]
    project.case("new", models="good, other")
    got = project.run_inside("--with-engine", "published")
    said = got.out.splitlines()
    assert said[-1].endswith("s, 5 jobs were compared with no snapshot (exit code 0)")
    assert sum("published is not an engine of the case" in line for line in said) == 1
    strict = project.run_inside("--with-engine", "published", "cases/good.case.yaml", "--strict")
    assert (strict.code, strict.codes) == (0, {"SNP003"})
    strict = project.run_inside("--strict")
    assert (strict.code, strict.codes) == (1, {"SNP002", "SNP003"})
