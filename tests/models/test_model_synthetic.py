"""Synthetic models: the same weights everywhere, logits of the right size, and layers whose patching shows."""

from __future__ import annotations

from functools import cache
from zlib import crc32

import numpy as np
import pytest
from model_helpers import fetch_or_skip, last_logits

from harness import models
from harness.models.sources import synthetic, weights
from harness.models.sources.installed import architectures
from harness.models.sources.qwen_tokenizer import QWEN
from harness.models.spec import SyntheticRow
from harness.vocabulary.errors import UnknownName, UsageError

ROWS = [row for row in models.bundled().values() if isinstance(row, SyntheticRow)]
LADDER = [row for row in ROWS if "families" not in row.tags]
"""Rows whose logits have a stated size; other families scale, cap and tie as they like."""
IN_FLOAT32 = [row for row in LADDER if row.dtype == "float32"]
PARIS, LONDON = "Paris is the capital of France", "London is the capital of France"


def small(**fields):
    return SyntheticRow(**{"id": "small", "source": "synthetic", "architecture": "llama", "vocab": 96} | fields)


@cache
def load(name):
    row = models.bundled()[name]
    if row.tokenizer == "qwen":
        fetch_or_skip(QWEN)
    return models.load(row)


@cache
def logits(name, text):
    model = load(name)
    return last_logits(model.module, model.tokenizer.encode(text))


def pcg64(seed_sequence, count):
    """PCG XSL-RR 128/64 as in O'Neill's paper (2014), seeded the way NumPy documents."""
    mask, multiplier = 2**128 - 1, 0x2360ED051FC65DA44385DF649FCCF645
    high, low, stream_high, stream_low = (int(word) for word in seed_sequence.generate_state(4, np.uint64))
    increment = ((stream_high << 64 | stream_low) << 1 | 1) & mask
    state = ((increment + (high << 64 | low)) * multiplier + increment) & mask
    for _ in range(count):
        state = (state * multiplier + increment) & mask
        folded, turn = (state >> 64 ^ state) & 2**64 - 1, state >> 122
        yield (folded >> turn | folded << (64 - turn)) & 2**64 - 1


def test_values_are_the_top_24_bits_of_the_streams_halves():
    words = list(pcg64(np.random.SeedSequence([7, crc32(b"model.x.weight")]), 3))
    halves = [half for word in words for half in (word & 2**32 - 1, word >> 32)][:5]
    seen = weights.uniform("model.x.weight", (5,), 7)
    assert seen.dtype == np.float32
    assert seen.tolist() == [(half >> 8) / 2**23 - 1 for half in halves]


def test_values_are_uniform():
    values = weights.uniform("name", (1000, 1000), 0).astype(np.float64)
    assert -1 <= values.min() < -0.9999
    assert 0.9999 < values.max() < 1
    # Five standard errors of the mean (3^-1/2 / 1000) and of the mean square ((4/45)^1/2 / 1000).
    assert abs(values.mean()) < 5 * 3**-0.5 / 1000
    assert abs((values**2).mean() - 1 / 3) < 5 * (4 / 45) ** 0.5 / 1000


def test_streams_of_other_names_and_seeds_are_unrelated():
    streams = [weights.uniform(name, (100_000,), seed) for name, seed in (("a", 0), ("b", 0), ("a", 1))]
    # Five standard errors of a correlation of independent samples.
    assert np.abs(np.corrcoef(streams) - np.eye(3)).max() < 5 / 100_000**0.5


def test_two_builds_are_bit_identical_and_another_seed_is_not():
    first, again, other = (last_logits(synthetic.build(small(seed=seed))[0], [1, 2, 3]) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_a_dtype_rounds_the_same_weights():
    import mlx.core as mx
    from mlx.utils import tree_flatten

    wide, half = (
        dict(tree_flatten(synthetic.build(small(dtype=dtype))[0].parameters())) for dtype in ("float32", "float16")
    )
    assert list(wide) == list(half)
    assert all(mx.array_equal(wide[name].astype(mx.float16), half[name]).item() for name in wide)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_the_card_says_what_was_built(row):
    card = load(row.id).card
    assert (card.id, card.source, card.architecture) == (row.id, "synthetic", row.architecture)
    assert (card.layers, card.vocab, card.dtype) == (row.layers, row.vocab, row.dtype)
    assert card.quantization == ("4-bit, group 32" if row.quantize else None)


@pytest.mark.parametrize("row", LADDER, ids=lambda row: row.id)
def test_logits_have_the_rows_scale(row):
    """Logits are sums of 64 independent terms: their deviation is `logit_scale`, their extremes stay under 6 of it."""
    clean = logits(row.id, PARIS)
    assert clean.shape == (row.vocab,)
    assert clean.std() == pytest.approx(row.logit_scale, rel=0.1)
    assert np.abs(clean).max() < 6 * row.logit_scale < 100


@pytest.mark.parametrize("row", LADDER, ids=lambda row: row.id)
def test_a_float16_l2_overflows_from_32000_tokens_on(row):
    distance = np.linalg.norm(logits(row.id, PARIS) - logits(row.id, LONDON))
    assert (distance > 255.97) == (row.vocab >= 32_000)
    if row.vocab == 151_936:
        assert distance / row.vocab**0.5 >= 0.8


@pytest.mark.parametrize("row", IN_FLOAT32, ids=lambda row: row.id)
def test_patching_any_mlp_shows(row):
    model = load(row.id)
    paris, london = model.tokenizer.encode(PARIS), model.tokenizer.encode(LONDON)
    clean, corrupted = logits(row.id, PARIS), logits(row.id, LONDON)
    distance = np.linalg.norm(corrupted - clean)
    recoveries = []
    for block in model.module.layers:
        kept = []
        with replaced(block.mlp, lambda output, kept=kept: kept.append(output) or output):
            last_logits(model.module, paris)
        with replaced(block.mlp, lambda output, kept=kept: kept[0]):
            patched = last_logits(model.module, london)
        recoveries.append(100 * (1 - np.linalg.norm(patched - clean) / distance))
    assert all(0.5 < abs(recovery) < 60 for recovery in recoveries), recoveries


class replaced:  # noqa: N801 - reads as a verb in a with statement
    """Run a module through `change(output)` for a while."""

    def __init__(self, module, change):
        self.module, self.kind = module, type(module)
        self.tapped = type("Tapped", (self.kind,), {"__call__": lambda me, x: change(self.kind.__call__(me, x))})

    def __enter__(self):
        self.module.__class__ = self.tapped

    def __exit__(self, *error):
        self.module.__class__ = self.kind


def test_4bit_quantizes_every_matrix_and_leaves_activations_wide():
    import mlx.core as mx

    model = load("qwen3-moe-152k-q4")
    bits = {name: child.bits for name, child in model.module.named_modules() if hasattr(child, "bits")}
    # mlx-lm keeps the router of qwen3_moe at 8 bits when it converts one.
    assert bits["model.layers.0.mlp.gate"] == 8
    assert {width for name, width in bits.items() if not name.endswith("mlp.gate")} == {4}
    assert {"lm_head", "model.embed_tokens", "model.layers.3.mlp.switch_mlp.down_proj"} <= set(bits)
    assert model.module(mx.array([[1, 2]])).dtype == mx.float32


def test_an_unknown_architecture_gets_the_nearest():
    with pytest.raises(UnknownName, match=r"'qwen33' is not a model architecture; did you mean 'qwen3'\?"):
        synthetic.build(small(architecture="qwen33"))


@pytest.mark.parametrize("helper", ["base", "cache", "rope_utils", "switch_layers"])
def test_mlx_lms_helpers_are_not_architectures(helper):
    assert helper not in architectures()


def test_an_unknown_configuration_key_gets_the_nearest():
    with pytest.raises(
        UsageError, match=r"small: config.hiden_size is not a key of llama; did you mean 'hidden_size'\?"
    ):
        synthetic.build(small(config={"hiden_size": 32}))


def test_an_architecture_that_wants_more_than_anybody_knows_says_what():
    with pytest.raises(
        UsageError,
        match=r"small: prism_hadamard_qwen35 cannot be built .*Unsupported Hadamard pack.*set it in `config`",
    ):
        synthetic.build(small(architecture="prism_hadamard_qwen35"))


def test_an_architecture_without_a_row_here_takes_what_the_zoo_knows():
    module, config = synthetic.build(small(architecture="qwen2_moe"))
    assert config["num_experts_per_tok"] >= 1
    assert np.isfinite(last_logits(module, [1, 2, 3])).all()


def test_a_value_that_does_not_fit_is_a_usage_error():
    with pytest.raises(UsageError, match=r"small: gpt2 cannot be built .*n_embd must be divisible by n_head"):
        synthetic.build(small(architecture="gpt2", config={"n_head": 7}))


def test_the_rows_own_configuration_wins():
    module, config = synthetic.build(small(config={"hidden_size": 32, "head_dim": 8}))
    assert config["hidden_size"] == 32
    assert module.model.embed_tokens.weight.shape == (96, 32)


def test_qwens_tokenizer_needs_qwens_vocabulary():
    with pytest.raises(UsageError, match="small: Qwen's tokenizer has 151,646 ids, the vocabulary 96"):
        models.load(small(tokenizer="qwen"))
