"""Heads: `z` is one head's slice of what goes into the output projection, never of what comes out of it."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from test_one_pass import apart, rows_of, sentences, small

from harness.intercept import Tap, record, replace, resolve, tapped
from harness.intercept.capture import _at
from harness.metrics.tolerances import Work, relative_difference, row_tolerance
from harness.models.architectures import HEADS
from harness.models.sources import miniatures
from harness.patching import sweep
from harness.vocabulary import Direction, Sweep
from harness.vocabulary.errors import UsageError

EQUAL = row_tolerance(Work.OTHER_BATCH, "float32")

IDS = (3, 5, 7, 11, 2)


def values_of(attention, head: int, heads: int) -> tuple[object, slice]:
    """Return the module that makes the values, and the part of its output that one head reads."""
    if hasattr(attention, "v_proj"):
        module, start, groups = attention.v_proj, 0, attention.v_proj.weight.shape[0]
    else:
        name = next(name for name in ("c_attn", "qkv_proj", "query_key_value") if hasattr(attention, name))
        module = getattr(attention, name)
        width = module.weight.shape[0]
        if name == "query_key_value":  # gpt_neox: query, key and value of a head stand together
            size = width // heads // 3
            return module, slice((3 * head + 2) * size, (3 * head + 3) * size)
        kv = getattr(attention, "n_kv_heads", heads)
        groups = width * kv // (heads + 2 * kv)
        start = width - groups
    kv_heads = getattr(attention, "n_kv_heads", getattr(attention, "num_key_value_heads", heads))
    size = groups // kv_heads
    group = head // (heads // kv_heads)
    return module, slice(start + group * size, start + (group + 1) * size)


@pytest.mark.parametrize("architecture", sorted(HEADS))
def test_changing_one_heads_values_changes_its_slice_and_no_other(architecture):
    model = miniatures.load(architecture)
    points = resolve(model, Sweep(("z",), (0,)))
    lie, heads = HEADS[architecture], points[0].slices
    attention = next(
        module
        for _, module in model.module.named_modules()
        if getattr(module, lie.projection, None) is points[0].module
    )
    assert heads > 1
    _, recorded = record(model, IDS, points[:1])
    (before,) = recorded[points[0]]
    kv = getattr(attention, "n_kv_heads", getattr(attention, "num_key_value_heads", heads))
    for head in range(heads):
        module, part = values_of(attention, head, heads)
        bump = mx.where((mx.arange(4096) >= part.start) & (mx.arange(4096) < part.stop), 1.0, 0.0)
        shift = Tap(module, lambda call, a, k, bump=bump: (lambda out: out + bump[: out.shape[-1]])(call(*a, **k)))
        seen: list[mx.array] = []
        look = Tap(points[0].module, lambda call, a, k, seen=seen: (seen.append(a[0]), call(*a, **k))[1])
        with tapped(model.module, [shift, look]):
            mx.eval(model.module(mx.array([list(IDS)])))
        changed = np.abs(np.array(seen[0].astype(mx.float32)) - np.array(before.astype(mx.float32))).max(axis=(0, 1))
        size = changed.size // heads
        sharing = [other for other in range(heads) if other // (heads // kv) == head // (heads // kv)]
        moved = [other for other in range(heads) if changed[other * size : (other + 1) * size].max() > 0.5]
        assert moved == sharing, f"head {head}"


@pytest.mark.parametrize("positions", ["all", "last", "each"])
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen3", "gemma2"])
def test_a_head_grid_equals_its_loop(architecture, direction, positions):
    model = small(architecture)
    asked = sentences(model, Sweep(("z",), None, direction, positions))
    assert apart(model, asked) <= EQUAL


def test_all_heads_together_are_the_attention_module():
    model = small("llama")
    asked = sentences(model, Sweep(("self_attn", "z")))
    whole, heads = (resolve(model, Sweep((component,), (1,))) for component in ("self_attn", "z"))
    _, source = record(model, asked.clean.ids, [*whole, *heads])
    together = replace(model, asked.corrupted.ids, heads, source, "all")
    assert relative_difference(replace(model, asked.corrupted.ids, whole, source, "all"), together) <= EQUAL


def test_a_head_sliced_after_the_projection_is_another_number(monkeypatch):
    """The projection mixes the heads: a slice of its output belongs to none of them."""
    model = small("llama")
    asked = sentences(model, Sweep(("z",), (1,)))
    _, right = rows_of(model, asked, "stepwise")
    sliced_late = [
        type(point)("z", point.layer, point.module, False, point.head, point.slices, point.slot)
        for point in resolve(model, asked.sweep)
    ]
    monkeypatch.setattr(sweep, "resolve", lambda model, asked: sliced_late)
    _, wrong = rows_of(model, asked, "stepwise")
    assert all(relative_difference(right[site], wrong[site]) > 1e-3 for site in right)


def test_sites_name_their_head():
    model = small("llama")
    steps, _ = rows_of(model, sentences(model, Sweep(("z",), (0,))), "one-pass")
    assert [str(site) for site in steps.sites] == [f"layer 0 z, head {head}" for head in range(4)]


def test_heads_of_an_architecture_that_nobody_looked_at_are_refused():
    model = miniatures.load("dbrx")
    said = r"how the heads of dbrx lie is not known here: z, q, k, v are known of 69 architectures"
    with pytest.raises(UsageError, match=said):
        resolve(model, Sweep(("z",)))


def test_only_the_heads_slice_is_replaced():
    model = small("llama")
    point = resolve(model, Sweep(("z",), (0,)))[1]
    own, put = mx.zeros((1, 3, 8)), mx.ones((1, 3, 8))
    got = np.array(_at("all", own, put, type(point)("z", 0, point.module, True, 1, 4, 1), 3))
    assert got[0].tolist() == [[0, 0, 1, 1, 0, 0, 0, 0]] * 3
