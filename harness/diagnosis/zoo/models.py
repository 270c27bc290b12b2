"""The small models that faults are planted in: mlx-lm's own classes, and the names they give their modules.

Every planting builds a model of its own, so nothing has to be undone on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.models.loaded import LoadedModel
from harness.models.sources import miniatures as architectures
from harness.models.sources import synthetic
from harness.models.sources.folder import card_of, cast
from harness.models.sources.miniatures.overrides import OVERRIDES, TEXT
from harness.models.spec import DType, SyntheticRow

VOCAB = 256
LAYERS = 4
HIDDEN = 64

CLEAN, CORRUPTED = (3, 7, 11, 200, 5, 9), (3, 8, 11, 200, 6, 9)
"""Six tokens each, that differ at 1 and 4."""

BLOCK, TOKEN, DIMENSION = 1, 2, 5
"""Where a fault goes that could go anywhere: neither the first nor the last of anything, in tokens both runs share."""


@dataclass(frozen=True)
class ModuleNames:
    """What an architecture calls its parts; paths in a block start at the block."""

    embedding: str = "model.embed_tokens"
    blocks: str = "model.layers"
    attention: str = "self_attn"
    values: str = "self_attn.v_proj"
    output: str = "self_attn.o_proj"
    mlp: str = "mlp"
    gate: str = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    down: str = "mlp.down_proj"
    added: str = "mlp.down_proj"
    """The last module before the MLP's residual add."""
    norm: str = "input_layernorm"
    head: str = "lm_head"

    def names(self, block: int) -> dict[str, str]:
        """Return part -> dotted path from the root, the parts of a block in the given one."""
        outside = {"embedding": self.embedding, "head": self.head, "block": f"{self.blocks}.{block}"}
        inside = {part: f"{outside['block']}.{path}" for part, path in asdict(self).items() if part not in outside}
        first = {f"first_{part}": f"{self.blocks}.0.{getattr(self, part)}" for part in ("attention", "norm")}
        return inside | outside | first


MODULE_NAMES: Mapping[str, ModuleNames] = {
    "gemma2": ModuleNames(added="post_feedforward_layernorm"),
    "gpt2": ModuleNames(
        embedding="model.wte", blocks="model.h", attention="attn", values="attn.c_attn", output="attn.c_proj",
        gate="mlp.c_fc", up="mlp.c_fc", down="mlp.c_proj", added="mlp.c_proj", norm="ln_1",
    ),
}  # fmt: skip
"""Architectures that do not call everything as llama does."""


def names_in(architecture: str, block: int = BLOCK) -> dict[str, str]:
    """Return part -> dotted path in a model of the architecture."""
    return MODULE_NAMES.get(architecture, ModuleNames()).names(block)


DTYPES = ("float32", "float16", "bfloat16", "4bit")
"""What a model of the zoo is built in. 4-bit weights have float32 scales and activations: with float16 ones they take
40 times as long on the CPU."""

_ASKED: ContextVar[str] = ContextVar("dtype", default="")


@contextmanager
def built_in(dtype: str) -> Iterator[None]:
    """Let models be built in a dtype, whatever their plantings ask for; an empty one changes nothing."""
    token = _ASKED.set(dtype)
    try:
        yield
    finally:
        _ASKED.reset(token)


def in_the_asked(dtype: DType) -> DType:
    """Return the dtype that models are built in, where another one is asked for."""
    asked: Any = _ASKED.get()
    return "float32" if asked == "4bit" else asked or dtype


def build(architecture: str, dtype: DType = "float16", vocab: int = VOCAB, **row: Any) -> LoadedModel:
    """Return a small model of the architecture, its weights a function of its name."""
    dtype = in_the_asked(dtype)
    if _ASKED.get() == "4bit":
        row = {"quantize": "4bit", **row}
    if architecture not in TEXT and "vocab_size" not in OVERRIDES.get(architecture, {}):
        written = {"source": "synthetic", "layers": LAYERS, "logit_scale": 4.0, "vocab": vocab, "dtype": dtype, **row}
        return synthetic.load(SyntheticRow(id=f"{architecture.lower()}-zoo", architecture=architecture, **written))
    return _as_listed(architecture, dtype)


def _as_listed(architecture: str, dtype: DType) -> LoadedModel:
    """Return what cannot have another size: a wrapper of a language model, a vocabulary fixed in code."""
    model = architectures.load(architecture)
    cast(model.module, dtype)
    config = {"model_type": architecture, "vocab_size": model.card.vocab}
    return LoadedModel(card_of(model.module, config, f"{architecture}-zoo", "synthetic"), model.module)


def both(model: LoadedModel | Path | str, **more: Any) -> dict[str, Any]:
    """Return the arguments of a diagnosis of patching between the two prompts."""
    return {"model": model, "clean": CLEAN, "corrupted": CORRUPTED, **more}


def alone(model: LoadedModel, **more: Any) -> dict[str, Any]:
    """Return the arguments of a diagnosis of one forward pass."""
    return {"model": model, "prompt": CLEAN, **more}
