"""Queries, keys, values and the MLP's neurons: held against splices by hand and against attention's own arguments."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace as changed

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from test_one_pass import apart, sentences, small

from harness.engines import answer, engine_named
from harness.intercept import Tap, forward, record, replace, resolve, slice_of, tapped
from harness.intercept.hookpoints import layers_with
from harness.metrics.tolerances import Work, relative_difference, row_tolerance
from harness.models.architectures import HEADS, Heads, blocks_of
from harness.models.sources import miniatures
from harness.models.sources.miniatures import reasons
from harness.patching import walk, walker
from harness.vocabulary import Direction, Sweep
from harness.vocabulary.errors import UsageError

EQUAL = row_tolerance(Work.OTHER_BATCH, "float32")
IDS = (3, 5, 7, 11, 2)
COMPONENTS = ("q", "k", "v", "mlp_post")
POINTS = 1e-4
POSITIONS = ["all", "last", (0, -2), "each"]


# -- by hand: a module of our own stands in a child's place ------------------------------------------------------------


class Spliced(nn.Module):
    """A child that keeps what passes, and puts columns of something else in at some tokens, before it or after it."""

    def __init__(self, inner, before):
        super().__init__()
        self.inner, self.before, self.put, self.kept = inner, before, None, []

    def __call__(self, x):
        value = self._spliced(x) if self.before else x
        out = self.inner(value)
        return out if self.before else self._spliced(out)

    def _spliced(self, value):
        self.kept.append(value)
        if self.put is None:
            return value
        source, tokens, columns = self.put
        rows = np.array(value)
        rows[:, tokens, columns] = np.array(source)[:, tokens, columns]
        return mx.array(rows)


def children(block):
    """Return the names under which each component's child stands, and whether its input is meant, by hand."""
    if hasattr(block, "attn"):
        attention = dict.fromkeys("qkv", (block.attn, "c_attn", False))
        return attention | {"mlp_post": (block.mlp, "c_proj", True)}
    attention = {name: (block.self_attn, f"{name}_proj", False) for name in "qkv"}
    return attention | {"mlp_post": (block.mlp, "down_proj", True)}


def columns(block, component, width):
    """Return the columns of each head: 4 heads of queries, over 2 of keys and values except in gpt2."""
    if component == "mlp_post":
        return [slice(None)]
    if hasattr(block, "attn"):
        start = "qkv".index(component) * (width // 3)
        return [slice(start + head * (width // 12), start + (head + 1) * (width // 12)) for head in range(4)]
    heads = 4 if component == "q" else 2
    return [slice(head * (width // heads), (head + 1) * (width // heads)) for head in range(heads)]


@contextmanager
def spliced(block, component):
    holder, name, before = children(block)[component]
    splice = Spliced(getattr(holder, name), before)
    setattr(holder, name, splice)
    try:
        yield splice
    finally:
        setattr(holder, name, splice.inner)


def by_hand(model, asked):
    """Return (component, layer, position, head) -> l2 recovery in percent, one splice a forward pass."""
    clean, corrupted = (np.array(forward(model, ids), np.float64) for ids in (asked.clean.ids, asked.corrupted.ids))
    whole, found, count = np.linalg.norm(corrupted - clean), {}, len(asked.clean.ids)
    places = {"all": [("all", list(range(count)))], "last": [("last", [count - 1])],
              "each": [(str(token), [token]) for token in range(count)]}  # fmt: skip
    for component in asked.sweep.components:
        for layer, block in enumerate(blocks_of(model.module)):
            with spliced(block, component) as splice:
                forward(model, asked.source)
                source = splice.kept[-1]
                for head, part in enumerate(columns(block, component, source.shape[-1])):
                    listed = [(",".join(map(str, asked.sweep.positions)), list(asked.sweep.positions))]
                    for position, tokens in places.get(asked.sweep.positions, listed):
                        splice.put = source, tokens, part
                        row = np.array(forward(model, asked.target), np.float64)
                        name = None if component == "mlp_post" else head
                        found[component, layer, position, name] = 100 * (1 - np.linalg.norm(row - clean) / whole)
    return found


def by_harness(model, asked, strategy):
    asked = changed(asked, sweep=changed(asked.sweep, strategy=strategy))
    given = answer(engine_named("native"), model, asked)
    assert (given.strategy, given.fallback) == (strategy, None)
    return {
        (curve.component, cell.layer, cell.position, cell.head): cell.recovery.value
        for curve in given.curves
        for cell in curve.cells
    }


def differences(model, sweep, strategy="stepwise"):
    """Return the cells whose recovery is not what the splice by hand finds."""
    asked = sentences(model, sweep)
    wanted, got = by_hand(model, asked), by_harness(model, asked, strategy)
    assert set(got) == set(wanted)
    for name in sweep.components:
        assert max(abs(value) for site, value in wanted.items() if site[0] == name) > 10 * POINTS, (
            f"{name} does nothing"
        )
    return {site for site in wanted if abs(got[site] - wanted[site]) > POINTS}


@pytest.mark.parametrize("strategy", ["stepwise", "one-pass"])
@pytest.mark.parametrize("positions", POSITIONS, ids=str)
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma2", "gpt2"])
def test_recoveries_are_those_of_a_splice_by_hand(architecture, direction, positions, strategy):
    assert not differences(small(architecture), Sweep(COMPONENTS, None, direction, positions), strategy)


def _off_by_the_group(self, attention, component):
    slots, slices = _SLOTS(self, attention, component)
    shift = 2 if component == "q" else 1
    return [(slot + shift) % slices for slot in slots], slices


def _keys_for_queries(self, component):
    return _PROJECTIONS(self, {"q": "k"}.get(component, component))


def _values_for_keys(self, attention, component):
    return _SLOTS(self, attention, {"k": "v"}.get(component, component))


_SLOTS, _PROJECTIONS = Heads.slots, Heads.projections
PLANTED = {
    "another head of the group": ("slots", _off_by_the_group, "llama", "qkv"),
    "keys where queries are asked": ("projections", _keys_for_queries, "qwen3", "q"),
    "values where keys are asked of a fused projection": ("slots", _values_for_keys, "gpt2", "k"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_seen_in_every_head(fault, monkeypatch):
    name, instead, architecture, components = PLANTED[fault]
    monkeypatch.setattr(Heads, name, instead)
    # In layer 0 the prompts differ at their first token only, whose query has one key to attend to.
    model, sweep = small(architecture), Sweep(tuple(components), (1,))
    asked = sentences(model, sweep)
    wanted, got = by_hand(model, asked), by_harness(model, asked, "stepwise")
    assert all(abs(value - wanted[site]) > POINTS for site, value in got.items())


# -- where attention is computed: one head of one thing moves ----------------------------------------------------------


@contextmanager
def attended():
    """Yield the queries, keys and values `[batch, heads, tokens, width]` of each call of mlx-lm's attention."""
    seen, name = [], "scaled_dot_product_attention"
    users = [each for key, each in sys.modules.items() if key.startswith("mlx_lm.models") and hasattr(each, name)]
    own = {each: getattr(each, name) for each in users}

    def watch(each):
        def called(*args, **kwargs):
            seen.append([np.array(one.astype(mx.float32)) for one in args[:3]])
            return own[each](*args, **kwargs)

        return called

    for each in users:
        setattr(each, name, watch(each))
    try:
        yield seen
    finally:
        for each in users:
            setattr(each, name, own[each])


def attended_by(model, point=None):
    """Return what the first layer with attention attends with, with something added to a hook point's slice."""

    def add(call, args, kwargs):
        out = call(*args, **kwargs)
        return out + slice_of(point, out.shape[-1]) * mx.sin(mx.arange(out.shape[-1])).astype(out.dtype)

    with attended() as seen, tapped(model.module, [Tap(point.module, add)] if point else []):
        mx.eval(model.module(mx.array([list(IDS)])))
    return seen[0]


def turned(one, other):
    """Return the heads whose direction differs at some token: a norm over all heads together only scales the others."""
    lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    cosines = np.sum(one * other, axis=-1) / lengths
    return [head for head in range(one.shape[1]) if cosines[:, head].min() < 0.999]


# gemma2 attends without the function that is watched; the splices by hand have it.
@pytest.mark.parametrize("architecture", sorted(HEADS.keys() - {"gemma2"}))
def test_a_head_moves_itself_where_attention_is_computed(architecture):
    model = miniatures.load(architecture)
    bare = attended_by(model)
    for at, component in enumerate("qkv"):
        points = resolve(model, Sweep((component,), (0,)))
        assert [point.head for point in points] == list(range(bare[at].shape[1]))
        for point in points:
            moved = [turned(*pair) for pair in zip(bare, attended_by(model, point), strict=True)]
            assert moved == [[point.head] if place == at else [] for place in range(3)], point


def test_a_shifted_slice_moves_another_head(monkeypatch):
    monkeypatch.setattr(Heads, "slots", _off_by_the_group)
    for architecture in ("llama", "phi3", "gpt_neox"):
        with pytest.raises(AssertionError):
            test_a_head_moves_itself_where_attention_is_computed(architecture)


@pytest.mark.parametrize(
    ("architecture", "component", "head", "start", "stop"),
    [
        ("gpt2", "q", 1, 16, 32), ("gpt2", "k", 1, 80, 96), ("gpt2", "v", 3, 176, 192),
        ("phi3", "q", 3, 48, 64), ("phi3", "k", 0, 64, 80), ("phi3", "v", 1, 112, 128),
        ("gpt_neox", "q", 1, 48, 64), ("gpt_neox", "k", 1, 64, 80), ("gpt_neox", "v", 3, 176, 192),
        ("gpt_bigcode", "k", 0, 64, 80), ("gpt_bigcode", "v", 0, 80, 96),
    ],
)  # fmt: skip
def test_the_columns_of_a_head_in_a_fused_projection(architecture, component, head, start, stop):
    """Miniatures have 4 heads of width 16."""
    point = resolve(miniatures.load(architecture), Sweep((component,), (0,)))[head]
    width = point.module.weight.shape[0]
    assert np.flatnonzero(np.array(slice_of(point, width))).tolist() == list(range(start, stop))


# -- laws --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", ["all", "each"])
@pytest.mark.parametrize("architecture", ["olmo2", "phi3", "gpt_neox", "gemma3_text", "hunyuan", "gemma4_text"])
def test_a_walk_equals_its_loop(architecture, positions):
    model = miniatures.load(architecture)
    layers = tuple(layers_with(model, "k"))
    components = tuple(name for name in COMPONENTS if set(layers) <= set(layers_with(model, name)))
    assert {"q", "k", "v"} <= set(components)
    asked = sentences(small("llama"), Sweep(components, layers, Direction.DENOISING, positions))
    short = [changed(each, ids=tuple(token % 64 for token in each.ids)) for each in (asked.clean, asked.corrupted)]
    assert apart(model, changed(asked, clean=short[0], corrupted=short[1])) <= EQUAL


@pytest.mark.parametrize("component", ["q", "k", "v"])
def test_a_walk_that_patches_another_head_is_not_proven(component, monkeypatch):
    model = small("gpt2")
    asked = sentences(model, Sweep((component,), (1, 2)))
    wanted = dict(walk(model, changed(asked, sweep=changed(asked.sweep, strategy="stepwise"))).patched)
    monkeypatch.setattr(walker, "slice_of", lambda point, width: slice_of(changed(point, slot=point.slot ^ 1), width))
    steps = walk(model, asked)
    got = dict(steps.patched)
    assert "one-pass and stepwise logits differ by" in steps.fallback
    assert all(np.array_equal(np.array(got[site]), np.array(row)) for site, row in wanted.items())


def patched(model, asked, *components, layer=1, positions="all"):
    """Return the logits with every hook point of some components patched together."""
    points = resolve(model, Sweep(components, (layer,)))
    _, source = record(model, asked.source, points)
    return replace(model, asked.target, points, source, positions)


@pytest.mark.parametrize("name", "qkv")
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma2"])
def test_all_heads_together_are_their_projection(architecture, name):
    model = small(architecture)
    asked = sentences(model, Sweep((name,)))
    for positions in ("all", "last"):
        heads, whole = (patched(model, asked, each, positions=positions) for each in (name, f"self_attn.{name}_proj"))
        assert np.array(heads).tobytes() == np.array(whole).tobytes()
        assert relative_difference(heads, forward(model, asked.target)) > 10 * EQUAL


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma2", "gpt2", "olmo2"])
def test_queries_keys_and_values_together_are_the_attention(architecture):
    """Attention is a function of these three; with any one left out it is not."""
    model = small(architecture)
    asked = sentences(model, Sweep(("self_attn",)))
    whole = patched(model, asked, "self_attn")
    assert relative_difference(patched(model, asked, "q", "k", "v"), whole) <= EQUAL
    assert relative_difference(patched(model, asked, "z"), whole) <= EQUAL
    for two in (("q", "k"), ("q", "v"), ("k", "v")):
        assert relative_difference(patched(model, asked, *two), whole) > 1e-3


@pytest.mark.parametrize(("architecture", "same"), [("qwen3", True), ("olmo2", False)])
def test_before_and_after_the_norm_differ_where_it_is_over_all_heads(architecture, same):
    """A norm and a rotation of one head at one token are a function of what is patched, so that a patch before them is
    one after them. A norm over all heads is not: it scales the others by what the patched one is."""
    model = small(architecture)
    asked = sentences(model, Sweep(("q",)))
    points = resolve(model, Sweep(("q",), (1,)))
    norm = changed(points[2], module=blocks_of(model.module)[1].self_attn.q_norm)
    if same:  # [batch, tokens, heads, width]: the norm's output is spliced by hand
        source, target = ([], [])
        for ids, kept in ((asked.source, source), (asked.target, target)):
            look = Tap(norm.module, lambda call, a, k, kept=kept: (kept.append(call(*a, **k)), kept[-1])[1])
            with tapped(model.module, [look]):
                forward(model, ids)
        mixed = mx.where((mx.arange(4) == 2)[None, None, :, None], source[0], target[0])
        with tapped(model.module, [Tap(norm.module, lambda call, a, k: mixed)]):
            after = forward(model, asked.target)
    else:
        _, recorded = record(model, asked.source, [norm])
        after = replace(model, asked.target, [norm], recorded, "all")
    _, recorded = record(model, asked.source, points[2:3])
    before = replace(model, asked.target, points[2:3], recorded, "all")
    assert relative_difference(before, forward(model, asked.target)) > 1e-4
    assert (relative_difference(before, after) <= EQUAL) is same


# -- the MLP -----------------------------------------------------------------------------------------------------------


@pytest.mark.constrained("mlx-lm")
@pytest.mark.parametrize("architecture", miniatures.architectures())
def test_the_down_projections_output_is_the_mlps(architecture):
    """In every architecture that has the component, in every layer that does."""
    try:
        model = miniatures.load(architecture)
        forward(model, IDS)
    except (UsageError, RuntimeError) as error:
        if reason := reasons.REASONS.get(architecture, {}).get("builds"):
            pytest.skip(reason.text)
        raise error
    for layer in layers_with(model, "mlp_post"):
        points = resolve(model, Sweep(("mlp_post", "mlp"), (layer,)))
        _, kept = record(model, IDS, [changed(point, is_input=False) for point in points])
        down, mlp = (np.array(values[0].astype(mx.float32)) for values in kept.values())
        assert down.tobytes() == mlp.tobytes(), layer


@pytest.mark.parametrize(
    ("architecture", "neurons"),
    [
        ("llama", lambda mlp, x: nn.silu(mlp.gate_proj(x)) * mlp.up_proj(x)),
        ("gemma2", lambda mlp, x: nn.gelu_approx(mlp.gate_proj(x)) * mlp.up_proj(x)),
        ("gpt2", lambda mlp, x: nn.gelu_approx(mlp.c_fc(x))),
    ],
    ids=["llama", "gemma2", "gpt2"],
)
def test_neurons_are_what_the_down_projection_is_given(architecture, neurons):
    """Patched whole they are the MLP's output, which is why no recovery tells one from the other."""
    model, given = small(architecture), []
    asked = sentences(model, Sweep(("mlp_post",), (1,)))
    (point,) = resolve(model, asked.sweep)
    mlp = blocks_of(model.module)[1].mlp
    with tapped(model.module, [Tap(mlp, lambda call, a, k: (given.append(a[0]), call(*a, **k))[1])]):
        forward(model, asked.source)
    _, kept = record(model, asked.source, [point])
    np.testing.assert_allclose(np.array(kept[point][0]), np.array(neurons(mlp, given[0])), rtol=0, atol=1e-5)
    for positions in ("all", "last"):
        inside, whole = (patched(model, asked, name, positions=positions) for name in ("mlp_post", "mlp"))
        assert relative_difference(inside, whole) <= EQUAL
        assert relative_difference(inside, forward(model, asked.target)) > 1e-3


# -- refusals: before any forward --------------------------------------------------------------------------------------


def refusal(architecture, component, layers=None):
    model = miniatures.load(architecture)
    blocks = blocks_of(model.module)
    with tapped(model.module, taps := [Tap(block, lambda call, a, k: call(*a, **k)) for block in blocks]), \
            pytest.raises(UsageError) as raised:  # fmt: skip
        resolve(model, Sweep((component,), layers))
    assert not any(tap.fired for tap in taps)
    return str(raised.value)


@pytest.mark.parametrize("component", "qkv")
def test_heads_that_nobody_looked_at_are_refused(component):
    assert "how the heads of deepseek_v3 lie is not known here" in refusal("deepseek_v3", component)


def test_a_mixture_of_experts_has_no_one_row_of_neurons():
    said = refusal("qwen3_moe", "mlp_post")
    assert said.startswith("layer 0 has no mlp_post (the MLP's neurons: input of its down projection): its MLP, ")
    assert "Qwen3MoeSparseMoeBlock, has no one down projection, as a mixture of experts has none" in said


def test_a_mixture_in_some_layers_is_refused_there():
    assert refusal("deepseek_v3", "mlp_post") == "layer 1 has no mlp_post; the layers that have it are [0]"


def test_a_layer_that_borrows_keys_has_none():
    assert refusal("hunyuan", "k") == "layer 1 has no k; the layers that have it are [0, 2]"


def test_keys_that_are_the_values_too_are_refused():
    model = miniatures.load("gemma4_text", change={"attention_k_eq_v": True})
    full = [layer for layer, block in enumerate(blocks_of(model.module)) if block.self_attn.use_k_eq_v]
    assert full
    assert not set(full) & set(layers_with(model, "k"))
    assert not set(full) & set(layers_with(model, "v"))
