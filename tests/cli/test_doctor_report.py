"""`harness doctor --report`: one result file with the machine, its drift and its speeds, which compare reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import pytest
from project import HERE, Project
from shortened import shortened

from harness.environment import facts
from harness.jobs import case_files
from harness.jobs.machine import speeds
from harness.results.json import read
from harness.vocabulary import JobResult, Speed, Status, Sweep

CASE = """\
models: [dial-tiny-f32]
prompts: {clean: [1, 2], corrupted: [1, 3]}
metrics: [l2, mse]
checks: [finiteness, snapshot]
"""


@pytest.fixture
def small(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project whose cases stand in for the bundled ones, with what they store."""
    project.write("cases/small.case.yaml", CASE)
    project.write("cases/both.case.yaml", CASE + "matrix: {strategy: [one-pass, stepwise]}\n")
    assert project.inside("run", "--snapshot-update").code == 0
    monkeypatch.setattr(case_files, "bundled_cases", lambda: project.folder / "cases")
    facts.environment.cache_clear()
    yield project
    facts.environment.cache_clear()


def test_it_is_a_result_that_says_what_the_machine_is(small: Project) -> None:
    got = small.inside("doctor", "--report", "mac.json")
    assert got.code == 0, got.out + got.err
    run = read(Path("mac.json"))
    assert {job.status for job in run.jobs} == {Status.PASSED}
    assert run.machine is not None
    assert run.machine.fit
    assert {"mlx", "device", "memory"} <= set(run.machine.facts)
    assert "float32 products" in {each.name for each in run.machine.probes}
    (drift,) = run.machine.drift
    assert (drift.dtype, drift.jobs, drift.against) == ("float32", 3, facts.backend())
    assert max(drift.points, drift.used) < 0.02  # a stored number is rounded
    assert [(each.case, each.model) for each in run.machine.speeds] == [("both", "dial-tiny-f32")]
    assert "float32: 3 jobs against" in got.out
    assert "written to mac.json" in got.out
    assert small.inside("compare", "mac.json", "mac.json", "--fail-on", "recovery=0").code == 0


def test_what_moved_is_measured_against_its_tolerance(small: Project) -> None:
    file = small.folder / "snapshots" / "small" / f"native@dial-tiny-f32.{facts.backend()}.json"
    text = file.read_text(encoding="utf-8")
    assert '"value": 50.0,' in text
    for value, used, code in (("50.005", 0.5, 0), ("51.0", 100.0, 1)):
        file.write_text(text.replace('"value": 50.0,', f'"value": {value},', 1), encoding="utf-8")
        assert small.inside("doctor", "--report", "mac.json").code == code
        machine = read(Path("mac.json")).machine
        assert machine is not None
        (drift,) = machine.drift
        assert drift.points == pytest.approx(float(value) - 50, rel=1e-3)
        assert drift.used == pytest.approx(used, rel=1e-3)
        assert drift.worst.startswith("small[native@dial-tiny-f32] mlp_out l2 layer 0")


def test_another_backend_is_held_against_what_there_is(small: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    before = small.snapshots
    monkeypatch.setattr(facts, "backend", lambda: "elsewhere")
    assert small.inside("doctor", "--report", "mac.json").code == 0
    machine = read(Path("mac.json")).machine
    assert machine is not None
    assert [each.against for each in machine.drift] == [HERE]
    assert small.snapshots == before


def test_a_machine_that_is_not_fit_is_reported_and_fails(small: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx, "matmul", shortened("matmul"))
    assert small.inside("doctor", "--report", "mac.json").code == 1
    machine = read(Path("mac.json")).machine
    assert machine is not None
    assert not machine.fit


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--report", "nowhere/mac.json"), "nowhere"), (("--report", "mac.json", "--json"), "leave --json out")],
    ids=["no folder", "both"],
)
def test_what_cannot_be_written_is_refused_before_any_work(small: Project, options: tuple[str, ...], said: str) -> None:
    got = small.inside("doctor", *options)
    assert got.code == 4
    assert said in got.err
    assert got.out == ""


def test_an_interrupted_run_leaves_no_half_report(small: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.cli.run_command.run_jobs", lambda *_: 2)
    got = small.inside("doctor", "--report", "mac.json")
    assert got.code == 2
    assert "mac.json is not written" in got.err
    assert not Path("mac.json").exists()


def test_speeds_are_of_sweeps_that_went_as_they_were_asked() -> None:
    def job(strategy: str, used: str, seconds: float, model: str = "m") -> JobResult:
        sweep, taken = Sweep(("mlp_out",), strategy=strategy), {"sweep_s": seconds}
        name = f"a.{strategy}[native@{model}]"
        return JobResult(
            name, name, "x/a.case.yaml", model, "native", Status.PASSED, sweep=sweep, strategy=used, timings=taken
        )

    both = [job("one-pass", "one-pass", 1.0), job("stepwise", "stepwise", 4.0)]
    assert speeds(both) == (Speed("a", "m", 1.0, 4.0),)
    assert speeds(both[:1]) == ()
    assert speeds([job("one-pass", "stepwise", 1.0), both[1]]) == ()
