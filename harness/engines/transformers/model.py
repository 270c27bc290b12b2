"""A folder as a torch model, and the module that each hook point of the MLX model is in it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.overrides import TorchFunctionMode

from harness.intercept import HookPoint
from harness.intercept.hookpoints import point
from harness.models.architectures import architecture_of, heads_of
from harness.models.loaded import LoadedModel
from harness.models.sources.folder import one_line, read_config
from harness.vocabulary.errors import EngineUnavailable, UnknownName, UsageError
from harness.vocabulary.words import number_of

_BLOCK_LISTS = ("layers", "h", "blocks")
_TOWERS = frozenset(("vision_tower", "vision_model", "audio_tower", "visual", "multi_modal_projector"))
"""Where models that also read images or sound keep the blocks that do."""
_NAMED = 3
"""Weights that a refusal names."""


class _Float64(TorchFunctionMode):  # type: ignore[misc]  # torch is optional and has no types here
    """transformers computes norms, softmaxes and rotary angles in float32 whatever the dtype of the model: here a
    float32 that code asks for is a float64. Without it SmolLM2's logits are off by 1e-6 of the largest."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.float:
            return args[0].double()
        kwargs = {name: _widened(value) for name, value in (kwargs or {}).items()}
        return func(*map(_widened, args), **kwargs)


def _widened(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


@dataclass(frozen=True)
class TorchModel:
    """A causal language model of transformers, its blocks in order, and what it computes in."""

    net: Any
    blocks: Sequence[Any]
    dtype: str

    @contextmanager
    def running(self) -> Iterator[None]:
        """Compute in the model's dtype and keep no gradients for the duration of the block."""
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.dtype == "float64":
                with _Float64():
                    yield
            else:
                yield

    def point(self, ours: HookPoint, architecture: str) -> HookPoint:
        """Return a hook point of the MLX model in this one. Raises EngineUnavailable where no module has its name."""
        block, row = self.blocks[ours.layer], architecture_of(architecture)
        try:
            if ours.head is None:
                return replace(ours, module=point(block, ours.layer, ours.component, row).module)
            attention = point(block, ours.layer, "self_attn", row).module
            return replace(ours, module=getattr(attention, heads_of(architecture).projections(ours.component)[0]))
        except (UsageError, UnknownName, AttributeError) as error:
            raise EngineUnavailable(f"transformers' {type(block).__name__}: {one_line(error)}") from error


def torch_model(model: LoadedModel, dtype: str) -> TorchModel:
    """Return the model's folder as torch runs it in `dtype`, with weights as the MLX model has them.

    Raises EngineUnavailable where there is no folder, transformers has no such architecture, or not every weight of
    one is a weight of the other.
    """
    if model.folder is None:
        raise EngineUnavailable(f"{model.card.id} has no folder on disk that transformers could read")
    found = _loaded(model.folder.resolve(), dtype, model.card.dtype)
    if len(found.blocks) != model.card.layers:
        raise EngineUnavailable(
            f"{number_of(len(found.blocks), 'block')} in transformers, {model.card.layers} in mlx-lm"
        )
    return found


@lru_cache(maxsize=1)
def _loaded(folder: Path, dtype: str, stored: str) -> TorchModel:
    config = read_config(folder, folder.name)
    if reason := _unreadable(config):
        raise EngineUnavailable(reason)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    wide = TorchModel(None, (), dtype)
    try:
        with wide.running(), torch.inference_mode(False):
            net, said = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(torch, dtype), local_files_only=True, output_loading_info=True,
                trust_remote_code=False, use_safetensors=True,
                attn_implementation="eager", experts_implementation="eager",
            )  # fmt: skip
    except Exception as error:
        raise EngineUnavailable(f"transformers cannot load {folder}: {one_line(error)}") from error
    if lost := _unmatched(said):
        raise EngineUnavailable(f"transformers and mlx-lm name weights of {folder} otherwise: {lost}")
    net.eval().to(getattr(torch, dtype))
    _as_stored(net, config, stored)
    return TorchModel(net, _blocks(net), dtype)


def _unreadable(config: dict[str, Any]) -> str | None:
    name = config.get("model_type")
    if name not in transformers.CONFIG_MAPPING:
        return f"transformers {transformers.__version__} has no architecture {name!r}"
    if "quantization" in config:
        return "the weights are packed as MLX packs them, which transformers cannot read"
    return None


def _unmatched(said: dict[str, Any]) -> str:
    """Return the first weights that one side lacks; transformers starts those with random values."""
    kinds = {"missing_keys": "not in the files", "mismatched_keys": "of another shape", "unexpected_keys": "left over"}
    named = {about: sorted(map(str, said.get(kind) or ())) for kind, about in kinds.items()}
    return "; ".join(f"{', '.join(keys[:_NAMED])} {about} ({len(keys)})" for about, keys in named.items() if keys)


def _as_stored(net: Any, config: dict[str, Any], stored: str) -> None:
    """Round the weights to the dtype that the MLX model holds them in, and order rotated pairs as transformers does.

    `rope_traditional` in a config.json says that the two numbers which a rotation mixes are neighbours (as in GGUF);
    transformers has one in each half of the head.
    """
    narrow = getattr(torch, stored)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.to(narrow))
        if config.get("rope_traditional"):
            for name, parameter in net.named_parameters():
                if ".q_proj." in name or ".k_proj." in name:
                    parameter.copy_(_in_halves(parameter, net.config))


def _in_halves(weight: Any, config: Any) -> Any:
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    pairs = weight.reshape(-1, width // 2, 2, *weight.shape[1:])
    return pairs.transpose(1, 2).reshape(weight.shape)


def _blocks(net: Any) -> list[Any]:
    lists = (
        (name.split("."), module) for name, module in net.named_modules() if isinstance(module, torch.nn.ModuleList)
    )
    for path, module in lists:
        if path[-1] in _BLOCK_LISTS and _TOWERS.isdisjoint(path) and len(module):
            return list(module)
    raise EngineUnavailable(f"{type(net).__name__} has no list of blocks")
