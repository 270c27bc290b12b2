"""One-pass is held against stepwise: equal wherever it is used, and not used where it cannot be equal."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
import pytest
from emulation.accelerator import emulated
from plain_transformer import CLEAN, CORRUPTED, LAYERS, Block, Transformer, loaded
from test_stepwise import question

from harness import intercept
from harness.metrics.tolerances import Work, relative_difference, row_tolerance
from harness.models import bundled, load
from harness.models.spec import SyntheticRow
from harness.models.tokens import read
from harness.patching import memory, one_pass, rows, sweep, walk, walker
from harness.vocabulary import Direction, Question, Sweep

EQUAL = row_tolerance(Work.OTHER_BATCH, "float32")

PARTS = ("resid_pre", "attn_out", "mlp_out", "resid_post", "self_attn", "mlp", "output")


def rows_of(model, asked: Question, strategy: str):
    steps = walk(model, replace(asked, sweep=replace(asked.sweep, strategy=strategy)))
    return steps, dict(steps.patched)


def apart(model, asked: Question) -> float:
    """Return the largest relative difference of any cell between the two strategies."""
    reference, wanted = rows_of(model, asked, "stepwise")
    steps, got = rows_of(model, asked, "one-pass")
    assert (reference.strategy, steps.strategy, steps.fallback) == ("stepwise", "one-pass", None)
    assert set(got) == set(wanted)
    assert steps.sites == reference.sites
    assert any(relative_difference(row, reference.corrupted) > 1e-3 for row in wanted.values())
    ends = [(steps.clean, reference.clean), (steps.corrupted, reference.corrupted)]
    return max(relative_difference(a, b) for a, b in [*ends, *((wanted[site], got[site]) for site in wanted)])


def small(architecture: str, dtype: str = "float32", **more):
    row = {"id": "s", "source": "synthetic", "architecture": architecture, "vocab": 512, "layers": 3, "dtype": dtype}
    return load(SyntheticRow(**row, **more))


def sentences(model, sweep: Sweep) -> Question:
    prompts = ("Paris is the capital of France", "London is the capital of France")
    clean, corrupted = (read(model, text) for text in prompts)
    return Question(clean, corrupted, sweep, ("l2",))


@pytest.mark.parametrize("positions", ["all", "last", (0, -2)], ids=str)
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize(
    ("architecture", "more"),
    [("llama", {}), ("gpt2", {}), ("qwen3", {}), ("qwen3_moe", {}), ("qwen3", {"quantize": "4bit"}), ("gemma2", {})],
    ids=["llama", "gpt2", "qwen3", "qwen3_moe", "qwen3 in 4 bits", "gemma2"],
)
def test_all_components_in_one_walk_equal_stepwise(architecture, more, direction, positions):
    model = small(architecture, **more)
    assert apart(model, sentences(model, Sweep(PARTS, None, direction, positions))) <= EQUAL


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_equals_stepwise_within_its_rounding(dtype):
    model = small("llama", dtype)
    assert apart(model, sentences(model, Sweep(PARTS))) <= row_tolerance(Work.OTHER_BATCH, dtype)


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma2"])
def test_a_grid_of_layers_and_positions_equals_its_loop(architecture, direction):
    model = small(architecture)
    asked = sentences(model, Sweep(("attn_out", "mlp_out", "resid_pre"), None, direction, "each"))
    assert apart(model, asked) <= EQUAL
    steps, rows = rows_of(model, asked, "one-pass")
    assert [site.position for site in steps.sites[:6]] == ["0", "1", "2", "3", "4", "5"]
    assert len(rows) == 3 * 3 * 6


def test_cells_that_cannot_reach_the_last_token_cost_no_row(plain):
    asked = question(Sweep(("mlp", "self_attn", "resid_pre"), (-1,), positions="each"))
    steps, rows = rows_of(loaded(plain), asked, "stepwise")
    idle = [site for site, row in rows.items() if mx.array_equal(row, steps.corrupted)]
    # Tokens 1 and 2 are the same in both prompts, so at them resid_pre of the last layer differs only by attention.
    assert {(site.component, site.position) for site in idle} >= {
        (component, position)
        for component in ("mlp", "self_attn")
        for position in "012"  # here: some models attend twice
    }
    walker_rows = []
    patches = sweep.patches_of(sweep.check_question(loaded(plain), asked), "each", 4)
    for _, rows in one_pass.one_pass(loaded(plain), CLEAN, CORRUPTED, patches, 1000):
        walker_rows.append(rows)
    (rows,) = walker_rows
    assert len(rows) == 12
    computed = [patch for patch in patches if not one_pass._idle(patch, LAYERS, 4, 0, late=True)]
    assert [(patch.point.component, patch.positions) for patch in computed] == [
        ("mlp", (3,)), *((component, (token,)) for component in ("self_attn", "resid_pre") for token in range(4)),
    ]  # fmt: skip


class MlpFirst(Block):
    """Attends after its MLP, so that a patch of the last layer's MLP still goes from token to token."""

    def __call__(self, x):
        x = x + self.mlp(x)
        return x + self.self_attn(x)


@pytest.mark.parametrize("positions", ["each", (0, 1)])
def test_a_patch_before_the_last_attention_is_walked(plain, positions):
    plain.layers[-1].__class__ = MlpFirst
    asked = question(Sweep(("mlp", "resid_post"), None, positions=positions))
    assert apart(loaded(plain), asked) <= EQUAL


@pytest.mark.parametrize(("rows", "walks"), [(1, 21), (5, 5), (1000, 1)])
def test_a_small_budget_walks_more_often_and_changes_no_number(plain, rows, walks):
    budget = (2 + rows) * memory.row_bytes(loaded(plain), 4)
    asked = question(Sweep(("mlp", "resid_pre"), None, positions="each", memory=budget))
    assert apart(loaded(plain), asked) <= EQUAL
    before = plain.forwards
    steps, _ = rows_of(loaded(plain), asked, "one-pass")
    # Two forwards for shapes. Of 24 cells the last layer's mlp has 3 that cannot reach the last token.
    assert plain.forwards - before == 2 + walks
    assert steps.memory.rows <= 2 + rows
    assert steps.memory.predicted <= budget


def test_a_walk_that_fails_half_way_goes_on_stepwise_and_says_so(plain, monkeypatch):
    budget = 6 * memory.row_bytes(loaded(plain), 4)
    asked = question(Sweep(("mlp",), None, positions="each", memory=budget))
    _, wanted = rows_of(loaded(plain), asked, "stepwise")
    walks, unbroken = [], one_pass.Walker.run

    def second_fails(self, source, target):
        walks.append(self)
        if len(walks) == 2:
            raise RuntimeError("out of memory")
        return unbroken(self, source, target)

    monkeypatch.setattr(one_pass.Walker, "run", second_fails)
    steps, got = rows_of(loaded(plain), asked, "one-pass")
    assert steps.strategy == "stepwise"
    assert steps.fallback == "after 7 of 12 cells: RuntimeError: out of memory"
    for site, row in wanted.items():
        assert relative_difference(row, got[site]) <= EQUAL


@pytest.mark.parametrize("layers", [(0,), (-1,), (2, 0)], ids=str)
def test_a_choice_of_layers_equals_stepwise(plain, layers):
    assert apart(loaded(plain), question(Sweep(("mlp", "resid_post"), layers))) <= EQUAL


def test_one_walk_is_one_forward_and_two_that_are_never_evaluated(plain):
    rows_of(loaded(plain), question(Sweep(PARTS)), "one-pass")
    assert plain.forwards == 3


class TwiceThrough(Transformer):
    """Goes through its blocks twice: a row that starts at a block would start at two moments."""

    def __call__(self, inputs):
        x = self.embedding[inputs]
        for layer in (*self.layers, *self.layers):
            x = layer(x)
        return self.head(x)


class SkipConnection(Transformer):
    """Adds the embedding after the last block: rows of two numbers meet."""

    def __call__(self, inputs):
        x = start = self.embedding[inputs]
        for layer in self.layers:
            x = layer(x)
        return self.head(x + start[:, -1:])


class BatchConscious(Transformer):
    """Every row sees the mean of all rows: no shape complains, and every number is wrong."""

    def __call__(self, inputs):
        x = self.embedding[inputs]
        for layer in self.layers:
            x = layer(x)
            x = x - 0.1 * mx.mean(x, axis=0, keepdims=True)
        return self.head(x)


class Mixing(Transformer):
    """Rows see other rows, in one of the ways there are."""

    def __call__(self, inputs):
        x = self.embedding[inputs]
        for layer in self.layers:
            x = layer(x)
            x = x - 0.1 * self.others(x)
        return self.head(x)


class SeesTheFirstRow(Mixing):
    def others(self, x):
        return x[:1]


class SeesTheRowBefore(Mixing):
    def others(self, x):
        return mx.concatenate([mx.zeros_like(x[:1]), x[:-1]])


class SeesTheRowsSoFar(Mixing):
    def others(self, x):
        return mx.cumsum(x, axis=0)


class SeesTheLargest(Mixing):
    """As a quantisation with one scale for the whole batch does."""

    def others(self, x):
        return mx.max(mx.abs(x)) * mx.sign(x)


class MixesTokensAtTheEnd(Transformer):
    """The head sees the mean of all tokens."""

    def __call__(self, inputs):
        x = self.embedding[inputs]
        for layer in self.layers:
            x = layer(x)
        return self.head(x - 0.5 * mx.mean(x, axis=1, keepdims=True))


class GoesByPlacesAtTheEnd(Transformer):
    """The head adds to the tokens from the third on: the last of one or two tokens is not the last of all."""

    def __call__(self, inputs):
        x = self.embedding[inputs]
        for layer in self.layers:
            x = layer(x)
        return self.head(x + (mx.arange(x.shape[1]) >= 2)[None, :, None])


class KnowsItsRow(Mixing):
    def others(self, x):
        return mx.arange(x.shape[0], dtype=x.dtype)[:, None, None]


@pytest.mark.parametrize(
    ("module", "strategy", "why"),
    [
        (TwiceThrough, "one-pass", "the blocks run in the order [0, 1, 2, 0, 1, 2]"),
        (SkipConnection, "one-pass", "broadcast"),
        (BatchConscious, "auto", "one-pass and stepwise logits differ by"),
        (SeesTheFirstRow, "auto", "one-pass and stepwise logits differ by"),
        (SeesTheRowBefore, "auto", "one-pass and stepwise logits differ by"),
        (SeesTheRowsSoFar, "auto", "one-pass and stepwise logits differ by"),
        (SeesTheLargest, "auto", "one-pass and stepwise logits differ by"),
        (MixesTokensAtTheEnd, "auto", "one-pass and stepwise logits differ by"),
        (GoesByPlacesAtTheEnd, "auto", "one-pass and stepwise logits differ by"),
        (KnowsItsRow, "auto", "one-pass and stepwise logits differ by"),
    ],
)
def test_what_cannot_be_walked_goes_stepwise_and_says_why(module, strategy, why):
    model, asked = loaded(module()), question(Sweep(PARTS))
    reference, wanted = rows_of(model, asked, "stepwise")
    steps, got = rows_of(model, asked, strategy)
    assert steps.strategy == "stepwise"
    assert why in steps.fallback
    for site, row in wanted.items():
        assert mx.array_equal(row, got[site])
    assert mx.array_equal(steps.clean, reference.clean)


class Masked(Transformer):
    """Hands each block a mask with a batch axis, by keyword, and gets a tuple back."""

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Block()
            self.mlp, self.self_attn = self.inner.mlp, self.inner.self_attn

        def __call__(self, *, hidden, mask):
            return self.inner(hidden) * mask, mask

    def __init__(self) -> None:
        super().__init__()
        layers, self.layers = self.layers, [Masked.Wrapped() for _ in range(LAYERS)]
        for mine, theirs in zip(self.layers, layers, strict=True):
            mine.update({"inner": theirs.parameters()})

    def __call__(self, inputs):
        x = self.embedding[inputs]
        mask = 1.0 + (inputs % 3)[..., None] * 0.1
        for layer in self.layers:
            x, _ = layer(hidden=x, mask=mask)
        return self.head(x)


def test_inputs_with_a_batch_axis_grow_along_and_keywords_and_tuples_are_seen():
    assert apart(loaded(Masked()), question(Sweep(("mlp", "self_attn", "resid_pre", "output")))) <= EQUAL


def test_a_square_mask_as_large_as_the_batch_is_not_taken_for_a_batch(plain):
    # Four tokens and, at some layer, four rows: only running two batch sizes tells the mask's axes apart.
    class SquareMask(Transformer):
        def __call__(self, inputs):
            x = self.embedding[inputs]
            mask = mx.triu(mx.full((inputs.shape[1], inputs.shape[1]), -1e9), k=1)
            for layer in self.layers:
                x = layer(x, mask)
            return self.head(x)

    class MaskedBlock(Block):
        def __call__(self, x, mask):
            return super().__call__(x) + 0.0 * mask.sum()

    model = SquareMask()
    for layer in model.layers:
        layer.__class__ = MaskedBlock
    assert apart(loaded(model), question(Sweep(("mlp", "self_attn")))) <= EQUAL


def test_auto_proves_a_component_once_for_each_model(plain):
    model = loaded(plain)
    asked = question(Sweep(("mlp", "mlp.up", "attn_out", "resid_pre"), None))
    model.proven.update({"mlp", "mlp.up", "attn_out"})
    steps, _ = rows_of(model, asked, "auto")
    assert steps.strategy == "one-pass"
    first = plain.forwards
    assert model.proven == {"mlp", "mlp.up", "attn_out", "resid_pre"}
    steps, _ = rows_of(model, asked, "auto")
    assert plain.forwards - first == 1  # how its blocks are called is known by now


def test_a_proof_is_one_forward(plain):
    model = loaded(plain)
    asked = question(Sweep(("mlp",), None, positions="each"))
    steps, _ = rows_of(model, asked, "auto")
    assert steps.strategy == "one-pass"
    # Two for shapes, the walk; one batch of both prompts and two cells.
    assert plain.forwards == 3 + 1


@pytest.mark.parametrize("positions", ["all", (0, -2)], ids=str)
def test_what_a_proof_computes_is_what_one_forward_a_cell_gives(plain, positions):
    model, asked = loaded(plain), question(Sweep(PARTS, positions=positions))
    steps, wanted = rows_of(model, asked, "stepwise")
    patches = sweep.patches_of(sweep.check_question(model, asked), positions, len(CLEAN))
    source, target, rows = intercept.run_together(model, CLEAN, CORRUPTED, patches)
    assert relative_difference(source, steps.clean) <= EQUAL
    assert relative_difference(target, steps.corrupted) <= EQUAL
    for patch, row in zip(patches, rows, strict=True):
        assert relative_difference(row, wanted[patch.site]) <= EQUAL


def off_by_one_layer(monkeypatch):
    unbroken = walker.Walker._taps

    def shifted(self, layer):
        next_layer = self.model.module.layers[(layer + 1) % LAYERS]
        taps = unbroken(self, layer)
        moved = [replace(tap, module=next_layer.mlp) for tap in taps[:-1]]
        return [*moved, taps[-1]]

    monkeypatch.setattr(walker.Walker, "_taps", shifted)


def wrong_donor(monkeypatch):
    monkeypatch.setattr(walker, "SOURCE", 1)


def stale_row(monkeypatch):
    monkeypatch.setattr(walker, "TARGET", 0)


def wrong_position(monkeypatch):
    monkeypatch.setattr(walker, "resolve_positions", lambda positions, tokens: [0])


def copies_of_the_wrong_row(monkeypatch):
    """Rows that attention was called without get the source's output in place of the target's."""
    unbroken = walker.Walker._extended

    def swapped(self, value, rows, groups):
        out = unbroken(self, value, rows, groups)
        return mx.concatenate([out[: value.shape[0]], *[value[:1]] * (rows - value.shape[0])])

    monkeypatch.setattr(walker.Walker, "_extended", swapped)


def rows_left_out_too_long(monkeypatch):
    """A row that was handed its activation is still taken for a copy of the target's."""
    unbroken = rows._block_plan

    def forgetful(layer, block, before, *rest):
        plan = unbroken(layer, block, before, *rest)
        return replace(plan, parts=tuple(replace(part, rows=min(part.rows, before)) for part in plan.parts))

    monkeypatch.setattr(rows, "_block_plan", forgetful)


def a_middle_token_for_the_last(monkeypatch):
    unbroken = walker.Walker._needed

    def shifted(self, part, given, short):
        args, kwargs = unbroken(self, part, given, short=False)
        return ((args[0][:, 1:2], *args[1:]), kwargs) if short else (args, kwargs)

    monkeypatch.setattr(walker.Walker, "_needed", shifted)
    monkeypatch.setattr(walker.Walker, "_agree", lambda self, wanted, got: True)


FAULTS = [
    off_by_one_layer,
    wrong_donor,
    stale_row,
    wrong_position,
    copies_of_the_wrong_row,
    rows_left_out_too_long,
    a_middle_token_for_the_last,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen_by_the_proof(plain, monkeypatch, fault):
    asked = question(Sweep(("self_attn", "mlp") if fault is rows_left_out_too_long else ("mlp",), positions="last"))
    _, wanted = rows_of(loaded(plain), asked, "stepwise")
    fault(monkeypatch)
    model = loaded(plain)
    steps, got = rows_of(model, asked, "one-pass")
    if steps.strategy == "one-pass":  # asked for by name, it is not proven: the rows themselves must show the fault
        assert max(relative_difference(wanted[site], got[site]) for site in wanted) > 1e-3
    # Four more layers make it worth proving.
    monkeypatch.setattr(sweep, "unproven", lambda model, patches, shared: patches[:2])
    steps, got = rows_of(model, asked, "auto")
    assert steps.strategy == "stepwise"
    assert steps.fallback
    assert not model.proven
    for site, row in wanted.items():
        assert mx.array_equal(row, got[site])


class Faint(Transformer):
    """Its logits stand far from zero, and hardly apart: by less than a millionth of the largest."""

    def __call__(self, inputs):
        return super().__call__(inputs) / 4096 + 1000


@pytest.mark.parametrize("fault", [None, wrong_donor, stale_row])
def test_a_proof_tells_rows_apart_that_differ_by_less_than_rounding_may(plain, monkeypatch, fault):
    plain.__class__ = Faint
    if fault:
        fault(monkeypatch)
    model = loaded(plain)
    steps, _ = rows_of(model, question(Sweep(("mlp",), None, positions="each")), "auto")
    assert relative_difference(steps.clean, steps.corrupted) < 2e-6
    assert (steps.strategy, bool(model.proven)) == (("stepwise", False) if fault else ("one-pass", True))


def seen_by(model, name: str, asked: Question) -> list[tuple[int, int]]:
    """Return the rows and tokens that a walk gives each layer's module of this name."""
    shapes: list[tuple[int, int]] = []
    for block in model.module.layers:
        module = getattr(block, name)

        class Spy(type(module)):
            def __call__(self, x):
                shapes.append(x.shape[:2])
                return super().__call__(x)

        module.__class__ = Spy
    rows_of(model, asked, "one-pass")
    return shapes[2 * LAYERS :]  # after two passes for shapes


@pytest.mark.parametrize(
    ("component", "attention", "mlp"),
    [
        ("self_attn", [2, 3, 4], [3, 4, 5]),  # what is replaced is not computed
        ("mlp", [2, 3, 4], [2, 3, 4]),  # until it is replaced, a row is the target's
        ("resid_pre", [3, 4, 5], [3, 4, 5]),
        ("resid_post", [2, 3, 4], [2, 3, 4]),
        ("mlp.up", [2, 3, 4], [3, 4, 5]),
    ],
)
def test_a_module_is_given_the_rows_that_need_it(plain, component, attention, mlp):
    asked = question(Sweep((component,)))
    last = [2]  # the last block is called with two rows first, to see that one token is enough
    given = seen_by(loaded(plain), "self_attn", asked)
    assert [rows for rows, _ in given] == [*attention[:-1], *last, attention[-1]]
    assert {tokens for _, tokens in given} == {4}


def test_the_last_mlp_is_given_the_last_token(plain):
    given = seen_by(loaded(plain), "mlp", question(Sweep(("self_attn",))))
    assert given == [(3, 4), (4, 4), (2, 4), (5, 1)]


class ShiftingMlp(Transformer):
    """The MLP sees the token before as well, as rwkv7's does: with the last token alone it is another number."""

    class Mlp(nn.Module):
        def __init__(self, inner) -> None:
            super().__init__()
            self.inner = inner

        def __call__(self, x):
            before = mx.concatenate([mx.zeros_like(x[:, :1]), x[:, :-1]], axis=1)
            return self.inner(x + before)

    def __init__(self) -> None:
        super().__init__()
        for layer in self.layers:
            layer.mlp = ShiftingMlp.Mlp(layer.mlp)


class MixesAfterwards(Transformer):
    """Tokens meet once more after the MLP."""

    class Block(Block):
        def __call__(self, x):
            out = super().__call__(x)
            return out + 0.3 * mx.cumsum(out, axis=1)

    def __init__(self) -> None:
        super().__init__()
        for layer in self.layers:
            layer.__class__ = MixesAfterwards.Block


class StacksItsMlp(Transformer):
    """The MLP's output is not just added: one token of it does not fit."""

    class Block(Block):
        def __call__(self, x):
            x = x + self.self_attn(x)
            return mx.concatenate([x[..., :4], self.mlp(x)[..., 4:]], axis=-1)

    def __init__(self) -> None:
        super().__init__()
        for layer in self.layers:
            layer.__class__ = StacksItsMlp.Block


@pytest.mark.parametrize("module", [ShiftingMlp, MixesAfterwards, StacksItsMlp])
def test_where_one_token_is_not_enough_the_last_block_gets_them_all(module):
    asked = question(Sweep(("resid_pre", "self_attn", "mlp")))
    assert apart(loaded(module()), asked) <= EQUAL


@pytest.mark.slow
def test_the_pretrained_model_equals_stepwise():
    model = load(bundled()["smollm2-135m-f32"], download=True)
    assert apart(model, sentences(model, Sweep(("mlp_out",)))) <= EQUAL


# -- on an emulated GPU ------------------------------------------------------------------------------------------------

TAKEN = [None, *FAULTS]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("text", ["order", "rows:1"])
@pytest.mark.parametrize("fault", TAKEN, ids=lambda fault: fault.__name__ if fault else "sound")
def test_rounding_as_a_gpu_has_it_hides_no_fault_of_a_walk_and_is_none(monkeypatch, fault, text, dtype):
    plain = Transformer()
    plain.set_dtype(getattr(mx, dtype))
    model = loaded(plain)
    model.card = replace(model.card, dtype=dtype)
    asked = question(Sweep(("self_attn", "mlp") if fault is rows_left_out_too_long else ("mlp",), positions="last"))
    monkeypatch.setattr(sweep, "unproven", lambda model, patches, shared: patches[:2])
    if fault:
        fault(monkeypatch)
    with emulated(text):
        steps, _ = rows_of(model, asked, "auto")
    assert (steps.strategy, bool(steps.fallback)) == (("stepwise", True) if fault else ("one-pass", False))
