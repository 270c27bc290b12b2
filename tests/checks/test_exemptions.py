"""`skip` and `xfail`: which jobs are meant, and what becomes of them."""

from __future__ import annotations

import pytest
from bench import dial, run

from harness.jobs import run as jobs
from harness.vocabulary.backends import CPU, CPU_ARM64, CUDA, METAL, is_meant

BROKEN = {"metrics": ("l2",), "expect": {"top_layers": ({"layers": (0,)},)}}


@pytest.mark.parametrize(
    ("entry", "meant"),
    [
        ({}, True),
        ({"engine": "native"}, True),
        ({"engine": "legacy"}, False),
        ({"model": "planted"}, True),
        ({"model": "plan*"}, True),
        ({"model": "other"}, False),
        ({"backend": CPU}, True),
        ({"backend": CPU_ARM64}, True),
        ({"backend": METAL}, False),
        ({"engine": "native", "model": "other"}, False),
    ],
    ids=str,
)
def test_an_entry_means_the_jobs_it_is_narrowed_to(monkeypatch, entry, meant):
    monkeypatch.setattr(jobs, "environment", lambda: type("Here", (), {"backend": CPU_ARM64}))
    written = ({"reason": "why", **entry},)
    assert run(dial(), skip=written, metrics=("l2",)).status == ("skipped" if meant else "passed")
    assert run(dial(), xfail=written, **BROKEN).status == ("passed" if meant else "failed")
    assert run(dial(), xfail=written, metrics=("l2",)).status == ("failed" if meant else "passed")


def test_an_arm_processor_is_meant_by_its_own_name_alone():
    assert is_meant(CPU, CPU)
    assert not is_meant(CPU_ARM64, CPU)
    assert not any(is_meant(CPU, other) for other in (METAL, CUDA))


def test_a_skipped_job_says_why_and_loads_no_model():
    result = run(dial(), skip="too slow")
    assert (result.status, result.reason) == ("skipped", "the case says: too slow")
    assert result.card is None


def test_a_job_that_fails_as_expected_passes_with_a_note_and_keeps_its_findings():
    result = run(dial(), xfail="known", **BROKEN)
    assert (result.status, result.reason) == ("passed", "as expected, this job fails: known")
    assert [(finding.code, finding.expected) for finding in result.findings] == [("EXP004", True)]


def test_a_job_that_passes_where_it_should_fail_fails():
    result = run(dial(), xfail="known", metrics=("l2",))
    (finding,) = result.findings
    assert (result.status, finding.code, finding.expected) == ("failed", "XFL001", False)
    assert "known" in finding.message


def test_what_cannot_be_carried_out_is_refused_all_the_same():
    assert run(dial(), xfail="known", sweep={"components": ("mpl",)}).status == "refused"


def test_the_first_entry_that_means_a_job_gives_the_reason():
    skip = ({"reason": "one", "engine": "legacy"}, {"reason": "two", "model": "plan*"}, {"reason": "three"})
    assert run(dial(), skip=skip).reason == "the case says: two"


def raising(model, clean, corrupted, component, layers, metric):
    """An engine with a misspelt name in it."""
    return lyers  # noqa: F821


raising.harness = {"units": "percent", "metrics": ["l2"], "components": ["mlp"]}


@pytest.mark.parametrize(
    ("codes", "status", "expected"),
    [
        ((), "passed", {"EXP004", "KNO001"}),
        (("EXP004", "KNO001"), "passed", {"EXP004", "KNO001"}),
        (("EXP004",), "failed", {"EXP004"}),
        (("ORC001",), "failed", set()),
    ],
)
def test_a_known_failure_that_names_codes_is_by_no_others(codes, status, expected):
    stated = {**BROKEN["expect"], "baselines": ({"metric": "l2", "value": 1, "within": 0},)}
    result = run(dial(), xfail={"reason": "known", "codes": codes}, metrics=("l2",), expect=stated)
    assert {finding.code for finding in result.findings} == {"EXP004", "KNO001"}
    assert ({finding.code for finding in result.findings if finding.expected}, result.status) == (expected, status)


@pytest.mark.parametrize(("codes", "status"), [((), "failed"), (("ENG001",), "passed"), (("EXP004",), "failed")])
def test_an_engine_that_raises_is_a_known_failure_only_by_name(codes, status):
    name = f"{__name__}:raising"
    result = run(dial(), name, engines=(name,), metrics=("l2",), xfail={"reason": "known", "codes": codes})
    assert ({finding.code for finding in result.findings}, result.status) == ({"ENG001"}, status)


def test_an_engine_that_cannot_be_imported_is_refused_all_the_same():
    name = "no_such_module:patch"
    assert run(dial(), name, engines=(name,), metrics=("l2",), xfail="known").status == "refused"


def test_a_known_failure_that_passes_fails_whatever_it_names():
    result = run(dial(), xfail=({"reason": "known", "codes": ("ORC001",)},), metrics=("l2",))
    assert (result.status, [finding.code for finding in result.findings]) == ("failed", ["XFL001"])
