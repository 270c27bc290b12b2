"""The three shapes of mlxterp, told apart by looking.

A stand-in package with each shape's interface, over the sound engine of the zoo, holds the translation to numbers that
are known; the real package is asked where it is installed.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli import exit_code_of
from harness.engines import answer, engine_named
from harness.engines.foreign import EngineRequest
from harness.engines.mlxterp import Texts, printed_baseline
from harness.engines.roles import CellPlace
from harness.models.sources import miniatures
from harness.vocabulary import Question, Sweep, Tokens
from harness.vocabulary.errors import EngineUnavailable

ZOO = Path(__file__).parents[1] / "laws" / "conformance"
CLEAN, CORRUPTED = Tokens((3, 7, 11, 5), ("",) * 4), Tokens((3, 8, 11, 6), ("",) * 4)

METHOD = """
import defects
__version__ = "9.9"
class InterpretableModel:
    def __init__(self, model, tokenizer=None):
        self.model, self.tokenizer = model, tokenizer
    def activation_patching(self, clean_text, corrupted_text, component="mlp", layers=None, metric="l2"{more}):
        clean, corrupted = self.tokenizer.encode(clean_text), self.tokenizer.encode(corrupted_text)
        component = "resid_post" if component == "output" else component
        found = defects.sound(self.model, clean, corrupted, component, layers, metric)
        print(f"Baseline {{metric}} distance: {{found['baseline']:.4f}}")
        {grid}
        return found["recoveries"]
"""
PLAIN = METHOD.format(more="", grid="pass")
POSITIONS = METHOD.format(
    more=", positions=None",
    grid="if positions == 'all': return [[found['recoveries'][layer]] * len(clean) for layer in layers]",
)
CAUSAL = """
import types, defects
asked = []
def activation_patching(model, clean, corrupted, layers=None, component="resid_post", metric="l2", positions=None,
                        metric_kwargs=None, verbose=False):
    ids = [model.tokenizer.encode(text) for text in (clean, corrupted)]
    asked.append((component, metric, positions, metric_kwargs))
    if component == "attn_head":
        return types.SimpleNamespace(data={"effects": {layer: {0: 0.25, 1: 0.75} for layer in layers}})
    if callable(metric):
        assert metric(-0.5, 0, -2.0) == 0.75
        metric = "l2"
    found = defects.sound(model.model, *ids, component, layers, metric)
    return types.SimpleNamespace(data={"effects": {k: v / 100 for k, v in found["recoveries"].items()}})
"""
METRICS = "def get_metric(name): return lambda patched, clean, corrupted: patched\n"
PROXY = "class TraceContext:\n    _stack = []\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write a stand-in package of a shape, importable instead of any real one."""

    def write(source, causal=None):
        root = tmp_path / "mlxterp"
        (root / "core").mkdir(parents=True)
        (root / "core" / "__init__.py").touch()
        (root / "core" / "proxy.py").write_text(PROXY)
        (root / "__init__.py").write_text(source)
        if causal:
            (root / "causal").mkdir()
            (root / "causal" / "__init__.py").touch()
            (root / "causal" / "patching.py").write_text(causal)
            (root / "metrics.py").write_text(METRICS)
        return engine_named("mlxterp")

    for name in [name for name in sys.modules if name.partition(".")[0] == "mlxterp"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(ZOO)
    monkeypatch.syspath_prepend(tmp_path)
    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlxterp"]:
        del sys.modules[name]


def recoveries(engine, model, metrics=("l2",), components=("mlp",), **sweep):
    given = answer(engine, model, Question(CLEAN, CORRUPTED, Sweep(components, **sweep), metrics))
    return given, [[cell.recovery.value for cell in curve.cells] for curve in given.curves]


@pytest.mark.parametrize(
    ("source", "causal", "shapes"),
    [(PLAIN, None, "method"), (POSITIONS, None, "positions"), (PLAIN, CAUSAL, "causal")],
    ids=["method", "positions", "causal"],
)
def test_each_shape_is_found_and_its_numbers_are_those_of_native(package, source, causal, shapes):
    engine, model = package(source, causal), miniatures.load("llama")
    assert engine.about == f"mlxterp, shape {shapes}"
    assert engine.version == "9.9"
    components = ("mlp", "resid_post", "mlp.down_proj")
    given, found = recoveries(engine, model, components=components)
    _, wanted = recoveries(engine_named("native"), model, components=components)
    for mine, right in zip(found, wanted, strict=True):
        assert mine == pytest.approx(right, abs=1e-3)
    assert given.attribution == ()


def test_fractions_become_percent(package):
    """Positions `last` only the causal shape claims; the stand-in patches all of them, and is seen to."""
    engine, model = package(PLAIN, CAUSAL), miniatures.load("llama")
    given, ((first, *_),) = recoveries(engine, model, positions="last")
    _, ((whole, *_),) = recoveries(engine, model)
    assert first == pytest.approx(whole, abs=1e-3)
    assert {finding.code for finding in given.attribution} == {"ATR002"}


def test_a_grid_is_read_by_layer_and_token(package):
    engine, model = package(POSITIONS), miniatures.load("llama")
    given, (cells,) = recoveries(engine, model, positions="each")
    assert [(c.layer, c.position) for c in given.curves[0].cells[:5]] == [
        (0, "0"), (0, "1"), (0, "2"), (0, "3"), (1, "0")]  # fmt: skip
    assert cells[0] == cells[3]


def asked_of_causal():
    return sys.modules["mlxterp.causal.patching"].asked


def test_heads_and_divergence_are_asked_of_the_causal_shape_in_its_words(package):
    engine, model = package(PLAIN, CAUSAL), miniatures.load("llama")
    assert engine.declared.own_name(model, "z") == "z"
    request = EngineRequest(model.module, None, CLEAN.ids, CORRUPTED.ids, "z", (1,), "l2", "all")
    assert engine.ask(request).recoveries == {CellPlace(1, None, 0): 0.25, CellPlace(1, None, 1): 0.75}
    engine.ask(replace(request, component="mlp", metric="kl_divergence"))
    (component, *_), (_, metric, *_) = asked_of_causal()
    assert (component, callable(metric)) == ("attn_head", True)


def test_positions_reach_the_causal_shape_as_they_were_written(package):
    """It leaves a position from the end out without a word, and that is seen only where it gets one."""
    engine, model = package(PLAIN, CAUSAL), miniatures.load("llama")
    request = EngineRequest(model.module, None, CLEAN.ids, CORRUPTED.ids, "mlp", (1,), "l2", (-1, 0))
    engine.ask(request)
    engine.ask(replace(request, positions="last"))
    assert [positions for _, _, positions, _ in asked_of_causal()] == [[-1, 0], [3]]


def test_its_word_for_a_component_is_handed_over_and_translated_by_nobody(package):
    """`mlp` of a model with experts is a name it does not find; what is added to the residual stream is a path."""
    engine, model = package(PLAIN), miniatures.load("mixtral")
    names = {name: engine.declared.own_name(model, name) for name in ("mlp", "mlp_out", "self_attn", "resid_post")}
    assert names == {
        "mlp": "mlp", "mlp_out": "block_sparse_moe", "self_attn": "self_attn", "resid_post": "output"}  # fmt: skip


def test_a_package_with_both_interfaces_is_two_engines(package):
    """Each is asked everything it has, and nothing that only the other has."""
    causal, method, model = package(PLAIN, CAUSAL), engine_named("mlxterp-method"), miniatures.load("llama")
    assert (causal.about, method.about) == ("mlxterp, shape causal", "mlxterp, shape method")
    assert [engine.knows("mse") for engine in (causal, method)] == [False, True]
    assert method.cannot(model, Sweep(("z",))) is not None
    _, (of_method,) = recoveries(method, model)
    _, (of_causal,) = recoveries(causal, model)
    assert of_method == pytest.approx(of_causal, abs=1e-3)


def test_a_package_without_the_older_interface_has_one_engine(package):
    package("class InterpretableModel: ...", CAUSAL)
    with pytest.raises(EngineUnavailable, match="that is mlxterp-method"):
        engine_named("mlxterp-method")


def test_a_trace_that_is_left_open_is_named(package):
    engine = package(PLAIN)
    assert engine.left_behind() is None
    sys.modules["mlxterp.core.proxy"].TraceContext._stack.append("left")
    assert engine.left_behind() == "1 trace contexts are left on mlxterp's stack"
    assert engine.left_behind() is None


class Beginning:
    """A tokenizer that begins every text with token 1, as Llama's do."""

    def encode(self, text):
        return [1, *(int(word[1:]) for word in text.split())]

    def decode(self, ids):
        return " ".join(f"t{token}" for token in ids)


class Plain(Beginning):
    """The same, which begins nothing."""

    def encode(self, text):
        return super().encode(text)[1:]


@pytest.mark.parametrize(
    ("tokenizer", "ids", "text"),
    [
        (Beginning(), (1, 3, 7), "t3 t7"),
        (Plain(), (1, 3, 7), "t1 t3 t7"),
        (Beginning(), (3, 7), "<3 7>"),
        (Beginning(), (1, 1, 3), "t1 t3"),
        (None, (3, 7), "<3 7>"),
    ],
    ids=["begun", "plain", "another beginning", "begun twice", "no tokenizer"],
)
def test_the_prompts_are_text_where_the_tokenizer_has_one(tokenizer, ids, text):
    """The text is that of the prompt without what the tokenizer adds; elsewhere a stand-in gives the ids asked for."""
    own = Texts(tokenizer)
    assert own.text(ids) == text
    assert own.encode(text) == list(ids)


@pytest.mark.parametrize("tokenizer", [Beginning(), Plain()], ids=["begun", "plain"])
def test_an_answer_is_the_word_that_users_write(tokenizer):
    """A library that takes the first id of it takes the beginning, and that is its users' number too."""
    own = Texts(tokenizer)
    assert (own.word(5), own.encode("t5")) == ("t5", tokenizer.encode("t5"))


def test_what_no_shape_does_is_named(package):
    engine, model = package(PLAIN), miniatures.load("llama")
    assert not engine.knows("log_prob")
    assert engine.cannot(model, Sweep(("mlp",), positions="each")) == "mlxterp patches positions all, not each"
    assert "'resid_pre' is not among its components" in engine.cannot(model, Sweep(("resid_pre",)))


def test_absent_it_is_skipped_with_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    with pytest.raises(EngineUnavailable, match="pip install git"):
        engine_named("mlxterp")


@pytest.mark.parametrize(
    ("printed", "value"),
    [
        ("Baseline l2 distance: 313.7752\n", 313.7752),
        ("Baseline cosine distance: 0.0079", None),
        ("Baseline l2 distance: inf", float("inf")),
        ("nothing", None),
    ],
)
def test_a_printed_baseline_counts_where_its_digits_do(printed, value):
    assert printed_baseline(printed) == value


@pytest.mark.skipif(importlib.util.find_spec("mlxterp") is None, reason="mlxterp is not installed")
def test_the_installed_one_agrees_with_native_on_a_llama():
    model = miniatures.load("llama")
    given, found = recoveries(engine_named("mlxterp"), model)
    _, wanted = recoveries(engine_named("native"), model)
    assert found[0] == pytest.approx(wanted[0], abs=0.01)
    assert [finding.code for finding in given.attribution if finding.code != "ATR005"] == []


BROKEN = {
    "an error": "raise ValueError('planted')",
    "a missing dependency": "import nothing_of_that_name",
    "the end of the process": "raise SystemExit(0)",
    "half a file": "def broken(",
    "no text": "class E(Exception):\n    __str__ = None\nraise E",
    "another version": "InterpretableModel = 3; __version__ = object()\nInterpretableModel.activation_patching",
    "a signature that cannot be read": "class InterpretableModel:\n    activation_patching = 3",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_mlxterp_is_refused_with_what_it_says(name, tmp_path, monkeypatch, capsys):
    (tmp_path / "mlxterp").mkdir()
    (tmp_path / "mlxterp" / "__init__.py").write_text(BROKEN[name], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    asked = ["diagnose", "--model", "dial-tiny-f32", "--clean-ids", "0", "--corrupted-ids", "1", "-e", "mlxterp"]
    for module in [module for module in sys.modules if module.partition(".")[0] == "mlxterp"]:
        monkeypatch.delitem(sys.modules, module)
    try:
        code = exit_code_of(asked)
    finally:
        sys.modules.pop("mlxterp", None)
    assert code == 4
    assert "the installed mlxterp cannot be imported: " in capsys.readouterr().err
