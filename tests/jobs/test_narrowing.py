"""A part of a case: what is asked, what is left of its expectations, and that the rest is not asked."""

from __future__ import annotations

from pathlib import Path

from harness.casefile import load_case
from harness.jobs.narrowing import narrowed

TEXT = """\
models: [good]
engines: [native, legacy]
prompts: {clean: "a", corrupted: "b"}
sweep: {components: [mlp, resid_post]}
metrics: [l2, mse]
expect:
  baselines:
    - {metric: l2, value: 7, within: 1}
    - {metric: mse, value: 7, within: 1, component: mlp}
  recoveries:
    - {component: mlp, layer: 0, metric: l2, value: 50, within: 1}
    - {component: resid_post, layer: 0, metric: l2, value: 100, within: 1}
  engines:
    legacy: {findings: [ORC001], may_find: [FIN004]}
"""


def case(tmp_path: Path):
    file = tmp_path / "x.case.yaml"
    file.write_text(TEXT, encoding="utf-8")
    return load_case(file)


def test_nothing_asked_is_the_case_itself(tmp_path: Path):
    whole = case(tmp_path)
    assert narrowed(whole, "native", (), ()) is whole


def test_what_is_asked_stays_in_the_order_of_the_case(tmp_path: Path):
    part = narrowed(case(tmp_path), "native", {"mse", "l2"}, {"resid_post"})
    assert part is not None
    assert (part.metrics, part.sweep.components) == (("l2", "mse"), ("resid_post",))


def test_statements_about_the_rest_are_left_out(tmp_path: Path):
    part = narrowed(case(tmp_path), "native", {"l2"}, {"resid_post"})
    assert part is not None
    assert [each.metric for each in part.expect.baselines] == ["l2"]
    assert [each.component for each in part.expect.recoveries] == ["resid_post"]


def test_nothing_left_is_no_job(tmp_path: Path):
    assert narrowed(case(tmp_path), "native", {"cosine"}, ()) is None
    assert narrowed(case(tmp_path), "native", (), {"attn_out"}) is None


def test_findings_that_must_appear_may_and_such_a_job_has_no_snapshot(tmp_path: Path):
    whole = case(tmp_path)
    legacy, native = (narrowed(whole, engine, {"l2"}, ()) for engine in ("legacy", "native"))
    assert legacy is not None
    assert native is not None
    assert legacy.expectation("legacy") == ((), ("ORC001", "FIN004"))
    assert "snapshot" not in legacy.checks
    assert native.checks == whole.checks
