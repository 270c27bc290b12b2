"""The matrix can be red: a planted fault for every column, and reasons that are not true are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from harness import patching
from harness.intercept import capture, forward, record, replace
from harness.laws.architectures.checks import CHECKS, CLEAN, CORRUPTED, build, points_of
from harness.laws.architectures.kind import FAIL
from harness.laws.architectures.matrix import cell
from harness.models.architectures import ARCHITECTURES, Architecture
from harness.models.sources import miniatures
from harness.models.sources.miniatures import reasons
from harness.models.sources.miniatures.reasons import Reason
from harness.patching import sweep
from harness.patching.one_pass import OnePassImpossible

Plant = Callable[[pytest.MonkeyPatch], None]


class Around(nn.Module):
    """A module in front of another, with something wrong about it."""

    def __init__(self, inner: Any):
        super().__init__()
        self.inner = inner


class Shy(Around):
    """Behaves differently while it is tapped."""

    def __call__(self, x: mx.array) -> mx.array:
        out: mx.array = self.inner(x)
        return out if type(self) is Shy else out * 1.001


class Keeper(Around):
    """Keeps what it returned."""

    kept: mx.array

    def __call__(self, x: mx.array) -> mx.array:
        Keeper.kept = self.inner(x)
        return Keeper.kept


class Reader(Around):
    """Adds what the keeper kept: state that travels around the residual stream."""

    def __call__(self, x: mx.array) -> mx.array:
        out: mx.array = self.inner(x) + Keeper.kept
        return out


class Counter(Around):
    """Counts its calls in a parameter."""

    def __init__(self, inner: Any):
        super().__init__(inner)
        self.calls = mx.zeros(1)

    def __call__(self, x: mx.array) -> mx.array:
        self.calls = self.calls + 1
        out: mx.array = self.inner(x)
        return out


def cell_of(name: str, column: str) -> str:
    """Return one cell of a row, without the others."""
    if column == "builds":
        return cell(name, column, lambda: build(name))
    return cell(name, column, lambda: CHECKS[column](miniatures.load(name)))


def with_mlps(monkeypatch: pytest.MonkeyPatch, wrappers: dict[int, type[Around]]) -> None:
    """Let the miniatures be models with the MLPs of some layers wrapped."""
    honest = miniatures.load

    def load(name: str) -> Any:
        model = honest(name)
        for layer, wrapper in wrappers.items():
            block = model.module.layers[layer]
            block.mlp = wrapper(block.mlp)
        return model

    monkeypatch.setattr(miniatures, "load", load)


def plant_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = miniatures.load

    def load(name: str) -> Any:
        model = honest(name)
        norm = model.module.model.norm
        norm.weight = norm.weight * float("nan")
        return model

    monkeypatch.setattr(miniatures, "load", load)


def plant_a_patch(change: Callable[[mx.array, mx.array], mx.array]) -> Plant:
    """Replace what a patch puts in place of the activation."""
    return lambda monkeypatch: monkeypatch.setattr(
        capture, "_at", lambda positions, value, put, point, tokens: change(value, put)
    )


def plant_other_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a walk answer a cell with its neighbour's logits."""
    honest = patching.walk

    def shifted(*arguments: Any) -> Any:
        walked = honest(*arguments)
        sites, rows = zip(*walked.patched, strict=True)
        walked.__dict__["patched"] = zip(sites, rows[1:] + rows[:1], strict=True)
        return walked

    monkeypatch.setattr(patching, "walk", shifted)


def plant_a_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> Any:
        raise OnePassImpossible("planted")

    monkeypatch.setattr(sweep, "one_pass", refuse)


FAULTS: dict[str, tuple[str, Plant, str]] = {
    "NaN in the last norm": ("builds", plant_nan, "NaN"),
    "a module that behaves while watched": ("traced", lambda m: with_mlps(m, {1: Shy}), "traced and bare"),
    "a patch that is a little off": ("self-patch", plant_a_patch(lambda value, put: put * 1.01), "own activations"),
    "state beside the stream": ("residual", lambda m: with_mlps(m, {0: Keeper, 3: Reader}), r"after layers [0, 1, 2]"),
    "a patch that does nothing": ("stepwise", plant_a_patch(lambda value, put: value), "no cell differs"),
    "a patch at all positions": ("stepwise", plant_a_patch(lambda value, put: put + 0), "position 0"),
    "a module that counts in a parameter": ("stepwise", lambda m: with_mlps(m, {1: Counter}), "not what it was"),
    "another cell's logits": ("one-pass", plant_other_cells, "differs from stepwise"),
    "a walk that falls back": ("one-pass", plant_a_fallback, "goes stepwise: planted"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_turns_its_column_red(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    column, plant, said = FAULTS[fault]
    plant(monkeypatch)
    seen = cell_of("llama", column)
    assert seen.startswith(FAIL)
    assert said in seen


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        pytest.param("gemma2", Architecture(), id="gemma2 before its post-norms"),
        pytest.param("granite", Architecture(), id="granite without its multiplier"),
        pytest.param("gemma4_text", Architecture(attn_out="post_attention_layernorm"), id="gemma4_text without a gain"),
        pytest.param("falcon_h1", Architecture(), id="falcon_h1 without its third branch"),
        pytest.param("olmo_hybrid", Architecture(), id="olmo_hybrid as if its blocks were alike"),
        pytest.param("granitemoehybrid", ARCHITECTURES["granite"], id="granitemoehybrid without its shared MLP"),
        pytest.param("nemotron_h", Architecture(mixer=()), id="nemotron_h without its mixers"),
    ],
)
def test_a_wrong_row_breaks_the_sum_of_parts(name: str, wrong: Architecture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, name, wrong)  # type: ignore[misc, call-overload]
    assert cell_of(name, "parts").startswith(f"{FAIL}Broken: layer")


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (Reason("an old story", "anything"), "FAIL: passes, and is listed with a reason: an old story"),
        (None, "pass"),
    ],
    ids=["a reason that outlived its cause", "no reason"],
)
def test_a_reason_for_what_passes_is_a_fault(reason: Reason | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "REASONS", {"llama": {"residual": reason}} if reason else {})
    assert cell_of("llama", "residual") == said


def test_a_reason_must_match_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "REASONS", {"hunyuan": {"residual": Reason("layer 3 only", r"layers \[3\]$")}})
    assert cell_of("hunyuan", "residual") == "FAIL: Broken: not restored after layers [0, 2]"


@pytest.mark.parametrize(
    ("name", "columns", "cure"),
    [
        ("afm7", ("residual",), {"num_kv_reuse_layers": 0}),
        ("hunyuan", ("residual",), {"use_cla": False}),
        ("gemma4_text", ("residual",), {"num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0}),
        ("kimi_k3", ("residual", "parts", "one-pass"), {"attn_res_block_size": None}),
        ("nanbeige", ("one-pass",), {"num_loops": 1}),
    ],
)
def test_a_reason_is_true_without_the_mechanism_the_law_holds(
    name: str, columns: tuple[str, ...], cure: dict[str, Any]
) -> None:
    model = miniatures.load(name, change=cure)
    for column in columns:
        CHECKS[column](model)


def test_blocks_that_are_never_called_still_have_components_to_patch() -> None:
    model = miniatures.load("iquestloopcoder")
    points = points_of(model, ("attn_out", "mlp_out"))
    _, source = record(model, CLEAN, points)
    patched = [replace(model, CORRUPTED, [point], source, "all") for point in points]
    unpatched = forward(model, CORRUPTED)
    assert len(points) == 8
    assert not any(mx.array_equal(row, unpatched) for row in patched)
