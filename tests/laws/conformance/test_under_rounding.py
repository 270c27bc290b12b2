"""Laws on a machine that rounds by the size of a batch, or not alike twice: nobody is accused of that."""

from __future__ import annotations

import mlx.core as mx
import pytest
from emulation.accelerator import emulated

from harness.engines import engine_named
from harness.laws import LAWS, afterwards
from harness.laws.breach import breaches
from harness.laws.conformance.matrix import BROKEN, SKIP, UNSTEADY, row_cells
from harness.laws.conformance.rows import architecture
from harness.laws.subject import EngineUnderTest

ASKED = ("scale", "nested", "repetition", "after-error", "residual")


def broken(engine, row, laws):
    found = row_cells(engine, row, [LAWS[law] for law in laws], shrink=False)
    return {cell.law: cell.text for cell in found if cell.status in BROKEN}


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("law", "dtype"),
    [("nested", "float16"), ("nested", "bfloat16"), ("after-error", "bfloat16"),
     pytest.param("scale", "float16", marks=SLOW), pytest.param("scale", "bfloat16", marks=SLOW)],
)  # fmt: skip
def test_our_own_engine_keeps_the_laws_in_the_halves(law, dtype):
    with emulated("order"):
        assert not broken(engine_named("native"), architecture("qwen3", dtype), [law])


@pytest.mark.slow
@pytest.mark.parametrize("text", ["order", "rows:4"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["llama", "gemma2", "olmo_hybrid"])
def test_every_family_keeps_the_laws_in_the_halves(name, dtype, text):
    with emulated(text):
        assert not broken(engine_named("native"), architecture(name, dtype), ASKED)


def small_llama():
    row = architecture("llama")
    return EngineUnderTest(engine_named("native"), row.build, row.clean, row.corrupted)


@pytest.mark.parametrize("seed", range(8))
def test_an_ulp_in_a_bare_run_is_no_damage(seed):
    """A call in two hundred is off: the bare runs on either side of an exception differ in bits under each seed."""
    with emulated(f"flaky:0.005:{seed}"):
        assert "logits" not in {each.kind for each in breaches(LAWS["after-error"].of_engine(small_llama()))}


def test_what_the_process_computes_otherwise_afterwards_is_damage(monkeypatch):
    subject, norm = small_llama(), mx.fast.rms_norm
    before = subject.state()
    assert afterwards._damage(subject, before, lambda: None, again=False) == ()
    monkeypatch.setattr(mx.fast, "rms_norm", lambda *args, **more: norm(*args, **more) * 1.01)
    (breach,) = afterwards._damage(subject, before, lambda: None, again=False)
    assert breach.kind == "logits"


def test_a_breach_on_a_machine_that_is_not_deterministic_is_asked_again(monkeypatch):
    asked = []

    def once(subject):
        asked.append(subject)
        return "traced and bare logits differ" if len(asked) == 1 else None

    found = told(monkeypatch, once)
    assert [found.status, len(asked)] == [SKIP, 2]
    assert UNSTEADY in found.text
    assert "traced and bare logits differ" in found.text


def test_a_breach_that_is_there_again_stays(monkeypatch):
    assert told(monkeypatch, lambda subject: "traced and bare logits differ").status in BROKEN


def test_a_breach_in_other_words_every_time_stays(monkeypatch):
    words = iter(range(100))
    assert told(monkeypatch, lambda subject: f"differ by {next(words)}").status in BROKEN


def test_a_breach_of_chance_is_not_taken_for_one_that_comes_twice(monkeypatch):
    words = iter(["differ by 1", "differ by 2", ""])
    assert told(monkeypatch, lambda subject: next(words)).status == SKIP


def test_another_engine_is_not_excused_where_bare_runs_are_alike(monkeypatch):
    asked = []

    def once(subject):
        asked.append(subject)
        return "raised" if len(asked) == 1 else None

    assert told(monkeypatch, once, native=False).status in BROKEN


def told(monkeypatch, law, native=True):
    from dataclasses import replace

    from harness.laws.conformance import matrix

    engine = engine_named("native" if native else "legacy")
    laws = {**LAWS, "traced": replace(LAWS["traced"], of_engine=law)}
    monkeypatch.setattr(matrix, "LAWS", laws)
    (found,) = row_cells(engine, architecture("llama"), [laws["traced"]], shrink=False)
    return found
