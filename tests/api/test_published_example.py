"""The published example with only its import changed, and what `harness` costs to import."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys

import pytest

import harness
from harness import InterpretableModel, models
from harness.models.spec import SyntheticRow
from harness.results import plots as plotting

EXAMPLE = """
from harness import InterpretableModel

model = InterpretableModel(base_model, tokenizer=tokenizer)
results = model.activation_patching(
    clean_text="Paris is the capital of France",
    corrupted_text="London is the capital of France",
    component="mlp",
    metric="mse",  # ← Important for large vocab models!
    plot=True
)

# Analyze results
sorted_results = sorted(results.items(), key=lambda x: x[1], reverse=True)
print("Top 3 most important layers:")
for layer_idx, recovery in sorted_results[:3]:
    print(f"  Layer {layer_idx}: {recovery:.1f}% recovery")
"""


@pytest.fixture(scope="module")
def qwen():
    """151,936 tokens in float16: where the published version printed `inf` and `nan%`."""
    row = SyntheticRow(id="qwen", source="synthetic", architecture="qwen3", vocab=151_936, logit_scale=4.0,
                       dtype="float16")  # fmt: skip
    return models.load(row)


def test_the_published_example_runs_with_its_import_changed(qwen, capsys, monkeypatch):
    pytest.importorskip("matplotlib.pyplot").switch_backend("agg")
    drawn, draw = [], plotting.draw
    monkeypatch.setattr(plotting, "draw", lambda *args, **options: drawn.append(draw(*args, **options)) or drawn[-1])
    exec(EXAMPLE, {"base_model": qwen.module, "tokenizer": qwen.tokenizer})
    (figure,) = drawn
    assert len(figure.axes[0].patches) == qwen.card.layers
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Top 3 most important layers:"
    assert len(lines) == 4
    shown = [float(line.partition(": ")[2].removesuffix("% recovery")) for line in lines[1:]]
    assert shown == sorted(shown, reverse=True)
    assert max(shown) > 1.0


@pytest.mark.parametrize("metric", ["l2", "mse", "cosine"])
def test_every_published_metric_is_finite_where_the_published_version_gave_nan(qwen, metric):
    model = InterpretableModel(qwen.module, tokenizer=qwen.tokenizer)
    texts = ("Paris is the capital of France", "London is the capital of France")
    result = model.activation_patching(*texts, metric=metric, layers=[0, -1])
    assert list(result) == [0, qwen.card.layers - 1]
    assert set(result.states.values()) == {"finite"}
    if metric == "l2":
        assert result.baseline > 255.97  # above the limit of a float16 L2


def test_the_signature_is_the_published_one_and_what_was_added_is_keyword_only():
    signature = inspect.signature(InterpretableModel.activation_patching)
    kinds = {name: (parameter.kind.name, parameter.default) for name, parameter in signature.parameters.items()}
    empty = inspect.Parameter.empty
    assert kinds == {
        "self": ("POSITIONAL_OR_KEYWORD", empty),
        "clean_text": ("POSITIONAL_OR_KEYWORD", empty),
        "corrupted_text": ("POSITIONAL_OR_KEYWORD", empty),
        "component": ("POSITIONAL_OR_KEYWORD", "mlp"),
        "layers": ("POSITIONAL_OR_KEYWORD", None),
        "metric": ("POSITIONAL_OR_KEYWORD", "l2"),
        "plot": ("POSITIONAL_OR_KEYWORD", False),
        "figsize": ("POSITIONAL_OR_KEYWORD", (12, 8)),
        "cmap": ("POSITIONAL_OR_KEYWORD", "RdBu_r"),
        "direction": ("KEYWORD_ONLY", "denoising"),
        "positions": ("KEYWORD_ONLY", "all"),
        "answers": ("KEYWORD_ONLY", None),
        "special_tokens": ("KEYWORD_ONLY", True),
        "value": ("KEYWORD_ONLY", "other"),
        "mean_of": ("KEYWORD_ONLY", ()),
        "strategy": ("KEYWORD_ONLY", "auto"),
        "memory": ("KEYWORD_ONLY", None),
        "prove": ("KEYWORD_ONLY", False),
        "dequantise": ("KEYWORD_ONLY", "never"),
    }


def run_python(code: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, **environment}
    ).stdout


@pytest.mark.as_installed("the child is started with MLX replaced already")
def test_importing_the_package_loads_neither_mlx_nor_mlx_lm():
    code = "import sys, json, harness; print(json.dumps([sorted(sys.modules), dir(harness)]))"
    loaded, names = json.loads(run_python(code))
    assert not [name for name in loaded if name.partition(".")[0] in ("mlx", "mlx_lm", "numpy", "matplotlib")]
    assert names == sorted(harness.__all__)


def test_using_the_api_loads_mlx_but_not_mlx_lm():
    code = "import sys, harness; harness.InterpretableModel; print('mlx.core' in sys.modules, 'mlx_lm' in sys.modules)"
    assert run_python(code).split() == ["True", "False"]


@pytest.mark.parametrize(("given", "wanted"), [(None, "0"), ("1", "1")], ids=["unset", "set by the user"])
def test_tf32_is_off_unless_the_user_says_otherwise(given, wanted, monkeypatch):
    monkeypatch.delenv("MLX_ENABLE_TF32", raising=False)
    environment = {} if given is None else {"MLX_ENABLE_TF32": given}
    assert run_python("import harness, os; print(os.environ['MLX_ENABLE_TF32'])", **environment).strip() == wanted


@pytest.mark.parametrize("name", harness.__all__)
def test_every_public_name_exists(name):
    assert getattr(harness, name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'harness' has no attribute 'activation_pathing'"):
        _ = harness.activation_pathing
