"""Recording and replacing: tuples, keywords, several calls, and everything that must not pass in silence."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from toy_model import IDS, Toy, ToyBlock, loaded, portrait

from harness.intercept import forward, record, replace, resolve_positions
from harness.intercept.hookpoints import HookPoint, point
from harness.models.architectures import Architecture
from harness.vocabulary.errors import TapError, UsageError

OTHER = (4, 5, 6)


def mlp_of(toy: Toy, layer: int = 1) -> HookPoint:
    return point(toy.layers[layer], layer, "mlp", Architecture())


def bits(row: mx.array) -> bytes:
    return np.array(row).tobytes()


def transplanted(toy: Toy, at: HookPoint, positions="all") -> tuple[mx.array, mx.array]:
    """Return the bare logits of IDS, and those with OTHER's activations at a hook point."""
    model = loaded(toy)
    _, source = record(model, OTHER, [at])
    return forward(model, IDS), replace(model, IDS, [at], source, positions)


class Wrapped(nn.Module):
    """A module around another one, with a given way of calling it."""

    def __init__(self, inner: nn.Module, how):
        super().__init__()
        self.inner, self.how = inner, how

    def __call__(self, *args, **kwargs):
        return self.how(self.inner, *args, **kwargs)


def test_a_recording_is_the_activation_and_leaves_the_logits_alone(toy):
    bare = forward(loaded(toy), IDS)
    row, kept = record(loaded(toy), IDS, [mlp_of(toy, 0)])
    (value,) = kept[mlp_of(toy, 0)]
    np.testing.assert_array_equal(np.array(value), np.array(toy.layers[0].mlp(toy.embedding[mx.array([IDS])])))
    assert bits(row) == bits(bare)


def test_resid_pre_is_what_the_block_is_given_and_resid_post_what_it_returns(toy):
    points = [HookPoint("resid_pre", 1, toy.layers[1], is_input=True), HookPoint("resid_post", 0, toy.layers[0])]
    _, kept = record(loaded(toy), IDS, points)
    assert bits(kept[points[0]][0]) == bits(kept[points[1]][0])


def test_a_tuple_carries_its_activation_first_and_keeps_the_rest(toy):
    seen = []
    toy.layers[1].mlp = Wrapped(toy.layers[1].mlp, lambda inner, x: (inner(x), "cache"))

    class TupleBlock(ToyBlock):
        def __call__(self, x, mask=None):
            out, rest = self.mlp(x)
            seen.append(rest)
            return x + out

    toy.layers[1].__class__ = TupleBlock
    bare, patched = transplanted(toy, mlp_of(toy))
    assert set(seen) == {"cache"}
    assert bits(patched) != bits(bare)


def test_a_block_called_by_keyword_is_patched_at_its_input(toy):
    class KeywordToy(Toy):
        def __call__(self, inputs):
            x = self.embedding[inputs]
            for layer in self.layers:
                x = layer(mask=None, x=x)
            return x @ self.head

    toy.__class__ = KeywordToy
    at = HookPoint("resid_pre", 0, toy.layers[0], is_input=True)
    bare, patched = transplanted(toy, at)
    assert bits(patched) == bits(forward(loaded(toy), OTHER))
    assert bits(patched) != bits(bare)


def test_a_block_called_without_an_activation_is_an_error(toy):
    block = Wrapped(toy.layers[0], lambda inner, **kwargs: mx.zeros((1, 3, 4)))
    toy.layers[0] = block

    class EmptyToy(Toy):
        def __call__(self, inputs):
            return self.layers[0](mask=None) @ self.head

    toy.__class__ = EmptyToy
    with pytest.raises(TapError, match="layer 0 resid_pre: the block was called without an activation"):
        record(loaded(toy), IDS, [HookPoint("resid_pre", 0, block, is_input=True)])


def test_a_module_called_twice_is_recorded_and_replaced_twice(toy):
    class TwiceBlock(ToyBlock):
        def __call__(self, x, mask=None):
            return x + self.mlp(x) - 3 * self.mlp(2 * x)

    toy.layers[1].__class__ = TwiceBlock
    before = portrait(toy)
    _, kept = record(loaded(toy), OTHER, [mlp_of(toy)])
    first, second = map(np.array, kept[mlp_of(toy)])
    np.testing.assert_allclose(second, 2 * first, rtol=1e-6)
    _, patched = transplanted(toy, mlp_of(toy))
    x = np.array(toy.embedding)[list(IDS)]
    x = x + x @ np.array(toy.layers[0].mlp.weight)
    x = x + first[0] - 3 * second[0]
    x = x + x @ np.array(toy.layers[2].mlp.weight)
    np.testing.assert_allclose(np.array(patched), (x @ np.array(toy.head))[-1], rtol=1e-5)
    assert portrait(toy) == before


def test_a_module_that_is_never_called_is_an_error_not_no_effect(toy):
    class BypassingBlock(ToyBlock):
        def __call__(self, x, mask=None):
            return x + x @ self.mlp.weight

    toy.layers[1].__class__ = BypassingBlock
    with pytest.raises(TapError, match="layer 1 mlp: the module was never called; it is bypassed, or was compiled"):
        record(loaded(toy), IDS, [mlp_of(toy)])


def test_a_module_compiled_before_the_tap_is_an_error_not_no_effect(toy):
    compiled = mx.compile(toy.layers[1].__call__)
    compiled(mx.zeros((1, len(IDS), 4)))

    class CompiledBlock(ToyBlock):
        def __call__(self, x, mask=None):
            return compiled(x)

    toy.layers[1].__class__ = CompiledBlock
    with pytest.raises(TapError, match="never called"):
        record(loaded(toy), IDS, [mlp_of(toy)])


@pytest.mark.parametrize(
    ("calls", "said"),
    [(1, "layer 1 mlp: called 1 time, recorded 2 times"), (3, "layer 1 mlp: called more often than recorded")],
    ids=["less often", "more often"],
)
def test_another_number_of_calls_than_recorded_is_an_error(toy, calls, said):
    times = [2, calls]

    class CountingBlock(ToyBlock):
        def __call__(self, x, mask=None):
            return x + sum(self.mlp(x) for _ in range(times[0]))

    toy.layers[1].__class__ = CountingBlock
    _, source = record(loaded(toy), OTHER, [mlp_of(toy)])
    times.reverse()
    with pytest.raises(TapError, match=said):
        replace(loaded(toy), IDS, [mlp_of(toy)], source, "all")


@pytest.mark.parametrize(
    ("ill", "said"),
    [
        (lambda value: value.astype(mx.float16), r"float16 was recorded, .* \S+float32 is replaced"),
        (lambda value: value[:, :1], r"\(1, 1, 4\) .* was recorded, \(1, 3, 4\)"),
        (lambda value: value[..., :1], r"\(1, 3, 1\) .* was recorded"),
    ],
    ids=["dtype", "one token", "one channel"],
)
def test_what_would_be_broadcast_or_promoted_is_refused(toy, ill, said):
    before, at = portrait(toy), mlp_of(toy)
    _, source = record(loaded(toy), OTHER, [at])
    with pytest.raises(TapError, match=said):
        replace(loaded(toy), IDS, [at], {at: [ill(source[at][0])]}, "all")
    assert portrait(toy) == before


@pytest.mark.parametrize(
    ("positions", "indices"),
    [("all", [0, 1, 2, 3]), ("last", [3]), ((0,), [0]), ((-1, 0), [3, 0]), ((-4, 2), [0, 2])],
    ids=str,
)
def test_positions(positions, indices):
    assert resolve_positions(positions, 4) == indices


@pytest.mark.parametrize("position", [4, -5, 100], ids="position {}".format)
def test_a_position_outside_the_prompt_is_an_error(position):
    with pytest.raises(UsageError, match=f"position {position} is outside the prompt of 4 tokens"):
        resolve_positions((0, position), 4)


def test_no_position_at_all_is_an_error():
    with pytest.raises(UsageError, match="no position"):
        resolve_positions((), 4)


@pytest.mark.parametrize("shape", [(3, 12), (2, 3, 12)], ids=str)
def test_a_model_that_returns_no_logits_is_an_error(toy, shape):
    class Odd(Toy):
        def __call__(self, inputs):
            return mx.zeros(shape)

    toy.__class__ = Odd
    with pytest.raises(UsageError, match=r"the model returned .*; logits of shape \[1, tokens, vocab\] are needed"):
        forward(loaded(toy), IDS)


def test_a_model_may_return_its_logits_in_a_tuple(toy):
    bare = forward(loaded(toy), IDS)

    class Pair(Toy):
        def __call__(self, inputs):
            return super().__call__(inputs), "cache"

    toy.__class__ = Pair
    assert bits(forward(loaded(toy), IDS)) == bits(bare)


def test_a_module_that_works_in_place_spoils_neither_the_recording_nor_its_next_use(toy):
    """MLX's `x += y` changes the very array another module returned or was given."""

    class InPlaceBlock(ToyBlock):
        def __call__(self, x, mask=None):
            out = self.mlp(x)
            x += out
            out *= 100
            return x

    points = [mlp_of(toy), HookPoint("resid_pre", 1, toy.layers[1], True), HookPoint("resid_post", 1, toy.layers[1])]
    rows = {at: transplanted(toy, at)[1] for at in points}
    _, wanted = record(loaded(toy), OTHER, points)
    for layer in toy.layers:
        layer.__class__ = InPlaceBlock
    _, source = record(loaded(toy), OTHER, points)
    for at in points:
        assert bits(source[at][0]) == bits(wanted[at][0])
        for _ in range(2):
            assert bits(replace(loaded(toy), IDS, [at], source, "all")) == bits(rows[at])
