"""A backend without a snapshot is compared with the one of the CPU, and its numbers wait outside snapshots/."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest
from project import Project

from harness.environment import facts as environment
from harness.jobs.planning import blank_result, jobs_in, tolerances
from harness.models import load_table
from harness.snapshots import Quantity
from harness.vocabulary import Cell, Curve, Denominator, Reading, Status

UPDATE = "--snapshot-update"


@pytest.fixture
def on_metal(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The case `good` stored on the CPU; from now on this process says it is another backend."""
    project.case("good")
    assert project.run_inside(UPDATE).code == 0
    monkeypatch.setattr(environment, "backend", lambda: "metal")
    environment.environment.cache_clear()
    yield project
    environment.environment.cache_clear()


def move(project: Project, old: str, new: str) -> None:
    file = project.snapshot()
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def candidate(project: Project, results: str = "results") -> Path:
    return project.folder / results / "snapshots" / "good" / "native@good.metal.json"


@pytest.mark.parametrize("recovery", ["50.0", "50.009"], ids=["equal", "0.009 points of 0.01"])
def test_within_the_wider_tolerance_it_warns_and_leaves_a_candidate(on_metal: Project, recovery: str) -> None:
    move(on_metal, '"value": 50.0', f'"value": {recovery}')
    before = on_metal.snapshots
    got = on_metal.run_inside("--strict")
    assert (got.code, got.codes) == (0, {"SNP003"})
    assert on_metal.snapshots == before
    assert '"backend": "metal"' in candidate(on_metal).read_text(encoding="utf-8")
    assert '"value": 50.0' in candidate(on_metal).read_text(encoding="utf-8")


def test_beyond_it_the_job_fails(on_metal: Project) -> None:
    move(on_metal, '"value": 50.0', '"value": 50.02')
    got = on_metal.run_inside("--results", "elsewhere")
    assert (got.code, got.codes) == (1, {"SNP001", "SNP003"})
    assert candidate(on_metal, "elsewhere").exists()


def test_a_denominator_that_rounding_moves_widens_the_comparison(on_metal: Project) -> None:
    """logit_diff of the dial: where its gap is a thousand digits of a logit, a recovery moves by tenths of a point."""
    job = jobs_in(on_metal.folder / "cases" / "good.case.yaml", load_table([on_metal.folder / "m.yaml"]))[0]
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


def test_its_own_snapshot_is_compared_closely(on_metal: Project) -> None:
    on_metal.run_inside(UPDATE)
    assert len(on_metal.snapshots) == 2
    assert on_metal.run_inside("--strict").code == 0
    file = on_metal.snapshot(backend="metal")
    file.write_text(file.read_text(encoding="utf-8").replace('"value": 50.0', '"value": 50.2'), encoding="utf-8")
    assert on_metal.run_inside().codes == {"SNP001"}


def test_a_case_that_allows_more_on_one_backend_allows_no_less_between_two(on_metal: Project) -> None:
    on_metal.case("good", more="tolerance: {recovery_points: 10, baseline_relative: 0.3}\n")
    move(on_metal, '"value": 50.0', '"value": 59.9')
    move(on_metal, '"value": 7.416198', '"value": 9.5')
    assert on_metal.run_inside().codes == {"SNP003"}
    move(on_metal, '"value": 59.9', '"value": 60.1')
    assert on_metal.run_inside().codes == {"SNP001", "SNP003"}


@pytest.mark.parametrize(
    ("machine", "name"), [("x86_64", "cpu"), ("AMD64", "cpu"), ("arm64", "cpu-arm64"), ("aarch64", "cpu-arm64")]
)
def test_an_arm_processor_is_a_backend_of_its_own(monkeypatch: pytest.MonkeyPatch, machine: str, name: str) -> None:
    monkeypatch.setattr(environment.platform, "machine", lambda: machine)
    with mx.stream(mx.cpu):
        assert environment.backend() == name


def test_no_snapshot_anywhere(on_metal: Project) -> None:
    on_metal.snapshot().unlink()
    assert on_metal.run_inside().codes == {"SNP002"}
    assert not candidate(on_metal).exists()


def test_a_candidate_that_cannot_be_written_is_no_crash(on_metal: Project) -> None:
    on_metal.write("taken", "a file where the folder should be")
    got = on_metal.run_inside("--results", "taken")
    assert (got.code, got.codes) == (0, {"SNP003"})
    assert "candidate: none" in " ".join(got.out.split())
