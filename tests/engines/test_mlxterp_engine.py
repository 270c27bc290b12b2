"""The three shapes of mlxterp, told apart by looking.

A stand-in package with each shape's interface, over the sound engine of the zoo, holds the translation to numbers that
are known; the real package is asked where it is installed.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from harness.cli import exit_code_of
from harness.engines import answer, engine_named
from harness.engines.mlxterp import printed_baseline, revision_of
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
def activation_patching(model, clean, corrupted, layers=None, component="resid_post", metric="l2", positions=None,
                        metric_kwargs=None, verbose=False):
    ids = [model.tokenizer.encode(text) for text in (clean, corrupted)]
    found = defects.sound(model.model, *ids, component, layers, metric)
    return types.SimpleNamespace(data={"effects": {k: v / 100 for k, v in found["recoveries"].items()}})
"""
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
    [(PLAIN, None, "method"), (POSITIONS, None, "positions"), (PLAIN, CAUSAL, "causal and method")],
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


def test_the_commit_of_a_checkout_is_read_from_its_head(tmp_path):
    package = type(sys)("mlxterp")
    package.__file__ = str(tmp_path / "mlxterp" / "__init__.py")
    (tmp_path / ".git" / "refs" / "heads").mkdir(parents=True)
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / ".git" / "refs" / "heads" / "main").write_text("2935fbf34e08\n")
    assert revision_of(package) == "2935fbf34e08"


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
