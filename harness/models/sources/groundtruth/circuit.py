"""The circuit: real mlx-lm classes with weights chosen by hand, so that the subject travels along one known path.

    token --embedding--> SUBJECT --attention of layer a--> MOVED --MLPs of `factors`--> ANSWER --head--> logits

Each name is a few coordinates of the residual stream. What makes real code linear, and exact:

- CONSTANT holds one huge number, so every RMSNorm divides by the same number and its weight multiplies it back.
- Queries and keys are 0, so attention is the mean over the tokens so far (their number n divides the effect).
- silu(32) is 32 in every dtype, so a gate of 32 times the constant leaves an MLP linear.

Every module also writes JUNK that depends on the subject and that nothing reads: its activations differ between the
runs, and patching them still has to change nothing. In a gated circuit the last MLP of `factors` opens its gate by
ANSWER and writes MOVED through it: it adds only where the answer already stands, so that restoring one part of the
path and breaking the same part are no longer mirror images. `algebra.py` has the answers.

Subjects are token ids 1 to 3 (anna, bert, cora), the default prompts `anna likes to drink` and `bert likes to drink`
or [1, 5, 6, 7] and [2, 5, 6, 7]. Subject k alone makes token 7 + k (tea, coffee, milk) the argmax.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from numpy.typing import NDArray

from harness.models.loaded import LoadedModel
from harness.models.sources.groundtruth import lattice
from harness.models.sources.groundtruth.algebra import GAIN, GATE, CircuitAnswers, Head, exact
from harness.models.sources.groundtruth.words import Words
from harness.models.sources.installed import code_of
from harness.models.spec import CircuitRow
from harness.vocabulary import ModelCard
from harness.vocabulary.errors import ModelUnavailable, UsageError

Weights = dict[str, NDArray[np.float32]]

TOKENIZER = Words(
    (
        "the",
        "anna",
        "bert",
        "cora",
        "and",
        "likes",
        "to",
        "drink",
        "tea",
        "coffee",
        "milk",
        "every",
        "day",
        "in",
        "town",
        ".",
    )
)
SUBJECTS = (1, 2, 3)
ANSWERS = (8, 9, 10)

HIDDEN, HEAD, INNER, EXPERTS = 16, 8, 8, 4
K = len(SUBJECTS)
CONSTANT = 0
SUBJECT, MOVED, ANSWER, JUNK = (slice(1 + K * i, 1 + K * (i + 1)) for i in range(4))
TOKEN = 13

CONFIG: Mapping[str, Any] = {
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "moe_intermediate_size": INNER,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": HEAD,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
    "num_experts": EXPERTS,
    "num_experts_per_tok": 2,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
}


def load(row: CircuitRow) -> LoadedModel:
    """Build a circuit; UsageError where its dtype would round the answers, ModelUnavailable where MLX cannot run it."""
    _require_device(row)
    head = _head(row)
    module = _module(row)
    weights = _weights(row, head)
    module.load_weights(
        [
            (name, mx.array(weights.get(name, np.zeros(old.shape, np.float32))).astype(getattr(mx, row.dtype)))
            for name, old in tree_flatten(module.parameters())
        ]
    )
    mx.eval(module.parameters())
    card = ModelCard(row.id, row.source, row.architecture, row.layers, row.vocab, row.dtype)
    return LoadedModel(card, module, TOKENIZER, CircuitAnswers(row, SUBJECTS, head))


def _require_device(row: CircuitRow) -> None:
    on_cpu = mx.default_device().type == mx.DeviceType.cpu
    if row.architecture == "qwen3_moe" and row.dtype != "float32" and on_cpu:
        raise ModelUnavailable(
            f"model {row.id!r}: MLX's GatherMM has no {row.dtype} on the CPU; use float32, or a machine with a GPU"
        )


def _head(row: CircuitRow) -> Head:
    """Return the logits of the subjects, with as large a part in common as the dtype holds exactly."""
    for spread in lattice.SPREADS:
        if exact(row, lattice.top_of(row.scale, spread), tokens=GAIN):
            shared, own = lattice.subject_rows(row.seed, row.vocab, ANSWERS, row.scale, spread)
            return Head(shared, own, lattice.unit_of(row.scale))
    raise UsageError(
        f"model {row.id!r}: factors {row.factors} are not exact in {row.dtype}; "
        "use multiples of a larger power of two, such as quarters, or float32"
    )


def _module(row: CircuitRow) -> Any:
    code = code_of(row.architecture)
    shape = {"model_type": row.architecture, "vocab_size": row.vocab, "num_hidden_layers": row.layers}
    return code.Model(code.ModelArgs.from_dict({**CONFIG, **shape}))


def _weights(row: CircuitRow, head: Head) -> Weights:
    """Return every weight that is not zero, under its name in the module."""
    huge = _huge(row.dtype)
    weights = {
        "model.embed_tokens.weight": _embedding(row.vocab, huge),
        "model.norm.weight": _norm(huge),
        "lm_head.weight": _lm_head(head),
    }
    for layer in range(row.layers):
        block = {"input_layernorm.weight": _norm(huge), "post_attention_layernorm.weight": _norm(huge)}
        block |= {f"self_attn.{name}": value for name, value in _attention(row, layer).items()}
        block |= {f"mlp.{name}": value for name, value in _mlp(row, layer).items()}
        weights |= {f"model.layers.{layer}.{name}": value for name, value in block.items()}
    return weights


def _huge(dtype: str) -> float:
    """Return the constant: a power of two whose square dwarfs all else, yet leaves float16 room for 1 / constant."""
    return 2.0**12 if dtype == "float16" else 2.0**24


def _norm(huge: float) -> NDArray[np.float32]:
    """Return the RMSNorm weight that undoes the division by huge / sqrt(HIDDEN), and makes the constant 1."""
    weight = np.full(HIDDEN, huge / HIDDEN**0.5, np.float32)
    weight[CONSTANT] = HIDDEN**-0.5
    return weight


def _embedding(vocab: int, huge: float) -> NDArray[np.float32]:
    table = _zeros(vocab, HIDDEN)
    table[:, CONSTANT] = huge
    table[list(SUBJECTS), SUBJECT] = np.eye(K)
    table[:, TOKEN] = np.arange(vocab) % 4
    return table


def _lm_head(head: Head) -> NDArray[np.float32]:
    weight = _zeros(head.own.shape[1], HIDDEN)
    weight[:, CONSTANT] = head.shared * head.unit
    weight[:, ANSWER] = head.own.T * head.unit
    return weight


def _attention(row: CircuitRow, layer: int) -> Weights:
    """Both heads read the mean of SUBJECT; head 0 of the one layer moves it, head 1 of every layer writes junk."""
    read, write = _zeros(HEAD, HIDDEN), _zeros(HIDDEN, 2 * HEAD)
    read[:K, SUBJECT] = np.eye(K)
    write[JUNK, HEAD : HEAD + K] = _sign(layer) * np.eye(K)
    if layer == row.attention_layer:
        write[MOVED, :K] = GAIN * np.eye(K)
    return {"v_proj.weight": read, "o_proj.weight": write}


def _mlp(row: CircuitRow, layer: int) -> Weights:
    gated = row.kind == "gated-circuit" and layer == max(row.factors)
    factor = row.factors.get(layer, 0.0)
    if row.architecture == "qwen3_moe":
        return _experts(factor, _sign(layer), gated)
    dense = _projections(factor, _sign(layer), gated)
    return {f"{name}.weight": value for name, value in dense.items()}


def _projections(factor: float, junk: float, gated: bool) -> Weights:
    """The first K units write factor x MOVED to ANSWER, the next K write junk."""
    gate, up, down = _zeros(INNER, HIDDEN), _zeros(INNER, HIDDEN), _zeros(HIDDEN, INNER)
    answer, rest = slice(0, K), slice(K, 2 * K)
    gate[rest, CONSTANT] = 32
    up[answer, MOVED] = np.eye(K)
    up[rest, SUBJECT] = up[rest, MOVED] = np.eye(K)
    up[rest, TOKEN] = 1
    down[JUNK, rest] = junk / 32 * np.eye(K)
    if gated:
        gate[answer, ANSWER] = GATE * np.eye(K)
        down[ANSWER, answer] = factor / GATE * np.eye(K)
    else:
        gate[answer, CONSTANT] = 32
        down[ANSWER, answer] = factor / 32 * np.eye(K)
    return {"gate_proj": gate, "up_proj": up, "down_proj": down}


def _experts(factor: float, junk: float, gated: bool) -> Weights:
    """The router always takes experts 0 and 1, half each; the other two would write the opposite, and be seen."""
    router = _zeros(EXPERTS, HIDDEN)
    router[:2, CONSTANT] = 8
    experts = [_projections(share, junk, gated) for share in (2 * factor, 0.0, -4.0, -4.0)]
    stacked = {f"switch_mlp.{name}.weight": np.stack([expert[name] for expert in experts]) for name in experts[0]}
    return stacked | {"gate.weight": router}


def _sign(layer: int) -> float:
    """Junk alternates, so that it stays small over many layers."""
    return -1.0 if layer % 2 else 1.0


def _zeros(rows: int, columns: int) -> NDArray[np.float32]:
    return np.zeros((rows, columns), np.float32)
