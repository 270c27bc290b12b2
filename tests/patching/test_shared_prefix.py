"""What both prompts begin with is run once, where that gives the same logits, and nowhere else."""

from __future__ import annotations

import mlx.core as mx
import pytest
from test_one_pass import apart, rows_of, small

from harness.metrics.tolerances import Work, relative_difference, row_tolerance
from harness.models import prefix as prefixes
from harness.models.sources import miniatures
from harness.patching import one_pass, sweep
from harness.patching.proof import SHARING
from harness.vocabulary import Direction, Question, Sweep, Tokens

EQUAL = row_tolerance(Work.OTHER_BATCH, "float32")

CLEAN, CORRUPTED = (3, 7, 11, 200, 5, 9), (3, 7, 11, 201, 5, 8)
SHARED = 3
PARTS = ("resid_pre", "attn_out", "mlp_out", "resid_post", "self_attn", "mlp", "mlp.down_proj")


def asked(sweep: Sweep, clean=CLEAN, corrupted=CORRUPTED) -> Question:
    return Question(*(Tokens(ids, tuple(map(str, ids))) for ids in (clean, corrupted)), sweep, ("l2",))


@pytest.fixture
def prefixes_run(monkeypatch):
    """Always share, and note which prefixes were run."""
    run: list[tuple[int, ...]] = []
    unbroken = prefixes.run_prefix

    def noted(model, blocks, ids):
        run.append(tuple(ids))
        return unbroken(model, blocks, ids)

    monkeypatch.setattr(sweep, "WORTH_SHARING", 0)
    monkeypatch.setattr(one_pass, "run_prefix", noted)
    return run


@pytest.mark.parametrize("positions", ["all", "last", (0, 3), "each"], ids=str)
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize(
    ("architecture", "more"),
    [("llama", {}), ("qwen3", {}), ("qwen3_moe", {}), ("qwen3", {"quantize": "4bit"}), ("olmo2", {})],
    ids=["llama", "qwen3", "qwen3_moe", "qwen3 in 4 bits", "olmo2"],
)
def test_a_walk_over_a_shared_prefix_equals_stepwise(prefixes_run, architecture, more, direction, positions):
    model = small(architecture, **more)
    parts = PARTS if architecture != "qwen3_moe" else PARTS[:-1]
    assert apart(model, asked(Sweep(parts, None, direction, positions))) <= EQUAL
    assert prefixes_run == [CLEAN[:SHARED]]
    assert model.unshared == ""


@pytest.mark.parametrize("differ", [1, 5], ids=["at the second token", "at the last token"])
def test_one_token_may_be_shared_or_left(prefixes_run, differ):
    corrupted = (*CLEAN[:differ], 222, *CLEAN[differ + 1 :])
    model = small("llama")
    assert apart(model, asked(Sweep(PARTS, positions="each"), corrupted=corrupted)) <= EQUAL
    assert prefixes_run == [CLEAN[:differ]]


def test_modules_see_only_what_follows(prefixes_run):
    model, seen = small("llama"), []

    class Spy(type(model.module.layers[1].mlp)):
        def __call__(self, x):
            seen.append(x.shape)
            return super().__call__(x)

    model.module.layers[1].mlp.__class__ = Spy
    rows_of(model, asked(Sweep(("mlp_out",))), "one-pass")
    width = seen[0][-1]
    # The prefix; two passes for shapes; the walk; the bare model, once, to see that sharing changes nothing.
    assert seen == [(1, 3, width), (1, 3, width), (2, 3, width), (3, 3, width), (1, 6, width)]


def test_a_patch_inside_the_prefix_costs_no_row(prefixes_run):
    model = small("llama")
    patches = sweep.patches_of(sweep.check_question(model, asked(Sweep(("attn_out",)))), "each", 6)
    idle = [one_pass._idle(patch, 3, 6, SHARED, late=True) for patch in patches[:6]]
    assert idle == [True, True, True, False, False, False]
    steps, rows = rows_of(model, asked(Sweep(("attn_out",), positions="each")), "one-pass")
    for site, row in rows.items():
        if int(site.position) < SHARED:
            assert mx.array_equal(row, steps.corrupted)


@pytest.mark.parametrize("architecture", ["gemma3_text", "qwen3_next", "mamba", "rwkv7"])
def test_a_cache_of_another_kind_is_not_shared(prefixes_run, architecture):
    model = miniatures.load(architecture)
    question = asked(Sweep(("resid_pre",), positions="each"))
    assert apart(model, question) <= EQUAL
    assert model.unshared == "the model's cache holds more than keys and values"
    rows_of(model, question, "one-pass")
    assert len(prefixes_run) == 1  # it is not tried again


def test_attention_that_is_not_causal_is_seen(prefixes_run):
    # Its block-sparse layers let earlier tokens see later ones: docs/architectures.md.
    model = miniatures.load("phi3small")
    assert apart(model, asked(Sweep(("resid_pre",), positions="last"))) <= EQUAL
    assert model.unshared == "a prefix run by itself gives other logits than one run with what follows"


def another_prefix(monkeypatch):
    monkeypatch.setattr(one_pass, "run_prefix", lambda model, n, ids: prefixes.run_prefix(model, n, [4, *ids[1:]]))


def a_position_too_early(monkeypatch):
    unbroken = prefixes.run_prefix

    def shifted(model, blocks, ids):
        caches = unbroken(model, blocks, ids)
        for cache in caches:
            cache.offset -= 1
        return caches

    monkeypatch.setattr(one_pass, "run_prefix", shifted)


@pytest.mark.parametrize("strategy", ["auto", "one-pass"])
@pytest.mark.parametrize("fault", [another_prefix, a_position_too_early])
def test_a_planted_fault_is_seen_with_and_without_a_proof(prefixes_run, monkeypatch, fault, strategy):
    fault(monkeypatch)
    model, question = small("qwen3"), asked(Sweep(("mlp_out",), positions="each"))
    steps, rows = rows_of(model, question, strategy)
    _, wanted = rows_of(model, question, "stepwise")
    assert steps.strategy == "one-pass"
    assert model.unshared
    assert SHARING not in model.proven
    assert max(relative_difference(wanted[site], rows[site]) for site in wanted) <= EQUAL


def test_prompts_that_differ_at_once_share_nothing(prefixes_run):
    model = small("llama")
    apart(model, asked(Sweep(("mlp_out",)), clean=(4, *CLEAN[1:])))
    assert prefixes_run == []
    assert model.unshared == ""


def test_few_cells_are_not_worth_it(monkeypatch):
    monkeypatch.setattr(one_pass, "run_prefix", lambda *_: pytest.fail("shared"))
    rows_of(small("llama"), asked(Sweep(("mlp_out",))), "one-pass")
