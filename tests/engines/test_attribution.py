"""Which part of a foreign engine is wrong: three recoveries side by side, and blame only where it is proven."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.engines import answer, engine_named
from harness.models.sources import miniatures
from harness.vocabulary import Question, State, Sweep, Tokens

sys.path.insert(0, str(Path(__file__).parents[1] / "laws" / "conformance"))

CLEAN, CORRUPTED = Tokens((3, 7, 11, 5), ("",) * 4), Tokens((3, 8, 11, 6), ("",) * 4)


@pytest.fixture(scope="module")
def llama():
    return miniatures.load("llama")


def asked(name, model, components=("mlp",), metrics=("l2",), **sweep):
    return answer(engine_named(name, True), model, Question(CLEAN, CORRUPTED, Sweep(components, **sweep), metrics))


def split(given, reference):
    """Return the largest difference of the reported from the own, and of the own from the reference's, in points."""
    cells = [
        (a, b)
        for x, y in zip(given.curves, reference.curves, strict=True)
        for a, b in zip(x.cells, y.cells, strict=True)
    ]
    return (
        max(abs(a.recovery.value - a.oracle.value) for a, _ in cells),
        max(abs(a.oracle.value - b.oracle.value) for a, b in cells),
    )


def test_a_sound_engine_is_seen_through_and_agrees_to_the_digit(llama):
    components, metrics = ("mlp", "attn_out", "resid_post"), ("l2", "mse", "cosine")
    given = asked("defects:sound", llama, components, metrics)
    assert given.attribution == ()
    assert len(given.patched) == 3 * 4
    metric, patching = split(given, asked("native", llama, components, metrics))
    assert metric < 1e-3
    assert patching < 1e-3


@pytest.mark.parametrize(
    ("defect", "metric_differs", "patching_differs"),
    [("constant_in_metric", True, False), ("hook_never_fires", False, True), ("wrong_layer", False, True)],
)
def test_a_difference_is_the_metrics_or_the_patchings(llama, defect, metric_differs, patching_differs):
    """Neither is blamed for the other: a patch in the next layer, correctly measured, is no metric's fault."""
    metric, patching = split(asked(f"defects:{defect}", llama), asked("native", llama))
    assert (metric > 0.5, patching > 0.5) == (metric_differs, patching_differs)


def test_what_was_not_seen_is_unknown_and_blamed_on_nobody(llama):
    given = asked("defects:unseen", llama)
    assert {cell.oracle.state for cell in given.curves[0].cells} == {State.UNKNOWN}
    assert [finding.code for finding in given.attribution] == ["ATR006"]


def test_the_order_of_an_engines_work_does_not_matter(llama, monkeypatch):
    """One that works its layers from the last to the first gets the same roles."""
    import defects

    class Backwards(defects.Engine):
        def __call__(self, model, clean, corrupted, component, layers, metric):
            return super().__call__(model, clean, corrupted, component, layers[::-1], metric)

    monkeypatch.setattr(defects, "backwards", Backwards(), raising=False)
    assert split(asked("defects:backwards", llama), asked("native", llama)) < (1e-3, 1e-3)
    assert asked("defects:backwards", llama).attribution == ()


def test_the_model_gets_its_classes_back_when_an_engine_raises(llama):
    before = [type(module) for module in llama.module.modules()]
    with pytest.raises(RuntimeError, match="planted") as caught:
        asked("defects:raising", llama)
    assert [type(module) for module in llama.module.modules()] == before
    assert caught.value.__notes__ == ["printed before: about to fail\n"]


def test_what_an_engine_prints_is_kept_and_reaches_nobodys_screen(llama, capsys):
    given = asked("defects:warning", llama)
    assert given.printed == "Warning: something was skipped\n"
    assert capsys.readouterr().out == ""


def test_noising_and_positions_that_are_not_declared_are_named(llama):
    engine = engine_named("defects:sound", True)
    sweep = Sweep(("mlp",))
    assert engine.cannot(llama, sweep) is None
    assert engine.cannot(llama, replace(sweep, direction="noising")) == "defects:sound does denoising only, not noising"
    assert engine.cannot(llama, replace(sweep, positions="each")) == "defects:sound patches positions all, not each"
    assert "'z' is not among its components" in engine.cannot(llama, replace(sweep, components=("z",)))


def test_a_component_is_translated_to_the_path_of_the_same_module():
    declared = engine_named("defects:sound", True).declared
    assert declared.own_name(miniatures.load("mixtral"), "mlp") == "block_sparse_moe"
    assert declared.own_name(miniatures.load("gemma2"), "mlp_out") == "post_feedforward_layernorm"
    assert declared.own_name(miniatures.load("gemma2"), "output") == "resid_post"
