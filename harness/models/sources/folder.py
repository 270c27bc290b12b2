"""Models in a local mlx-lm folder: `config.json`, `*.safetensors` and a tokenizer.

Every source that ends in a folder (path, wheel, hub) loads it here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.models.loaded import LoadedModel, Tokenizer
from harness.models.spec import PathRow
from harness.support.inputs import UnreadableInput, read_input
from harness.support.weight_files import BrokenFile, stored_in
from harness.vocabulary import ModelCard
from harness.vocabulary.errors import HarnessError, UsageError, described
from harness.vocabulary.words import number_of

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "tiktoken.model", "qwen.tiktoken")
MOST_CONFIG = 16 << 20
"""Bytes of a `config.json`."""
_LAYERS = frozenset({"num_hidden_layers", "num_layers", "n_layers", "n_layer"})
"""Keys under which architectures of mlx-lm make a module for each number."""


def problem(folder: Path) -> str | None:
    """Return what keeps the folder from being an mlx-lm model, or None."""
    if not folder.is_dir():
        return f"{folder} is {'not a folder' if folder.exists() else 'not there'}"
    if not (folder / "config.json").is_file():
        return f"{folder} has no config.json; an mlx-lm folder has one (`mlx_lm.convert` writes it)"
    if not any(folder.glob("model*.safetensors")):
        return f"{folder} has no model*.safetensors; an mlx-lm folder has at least one (`mlx_lm.convert` writes them)"
    return None


def load_path(row: PathRow) -> LoadedModel:
    """Load a row of source `path`; raises UsageError naming what is missing or what mlx-lm says."""
    return load_folder(Path(row.path).expanduser(), row.id, "path", row.dtype)


def load_folder(
    folder: Path, model_id: str, source: str, dtype: str | None = None, *, trust_remote_code: bool = False
) -> LoadedModel:
    """Load an mlx-lm folder, casting what is not packed to `dtype` ("float32", ...; None: as stored).

    Raises UsageError if a part is missing, if the folder brings its own Python, or if mlx-lm refuses it.
    """
    if reason := problem(folder):
        raise UsageError(f"{model_id}: {reason}")
    config = read_config(folder, model_id)
    if config.get("model_file") and not trust_remote_code:
        raise UsageError(
            f"{model_id}: {folder} wants to run its own Python ({config['model_file']}); "
            "set trust_remote_code on a hub row if you have read it"
        )
    _refuse_lying_sizes(folder, model_id, config)
    with _blaming(f"{model_id}: mlx-lm cannot load {folder}"):
        module = _load_module(folder, trust_remote_code)
        cast(module, dtype)
        card = card_of(module, config, model_id, source)
    tokenizer = load_tokenizer(folder, model_id, config, trust_remote_code)
    return LoadedModel(card, module, tokenizer, folder=folder)


@contextmanager
def _blaming(what: str) -> Iterator[None]:
    """Say of the folder whatever mlx-lm raises over it: a damaged or hostile one is never a fault of the harness."""
    try:
        yield
    except (HarnessError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UsageError(f"{what}: {one_line(error)}") from error


def _refuse_lying_sizes(folder: Path, model_id: str, config: Mapping[str, Any]) -> None:
    """Raise UsageError where a weight file is broken, or the configuration has more layers than there are tensors: a
    million of them would be made before anything is compared."""
    try:
        count = sum(len(stored_in(file)) for file in folder.glob("model*.safetensors"))
    except BrokenFile as error:
        raise UsageError(f"{model_id}: {folder}: {error}") from error
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for key in _LAYERS & part.keys():
            if isinstance(part[key], int) and part[key] > count:
                raise UsageError(
                    f"{model_id}: {folder}: config.json says {key}: {str(part[key])[:20]}, with "
                    f"{number_of(count, 'tensor')}"
                )


def read_config(folder: Path, model_id: str) -> dict[str, Any]:
    """Return `config.json` as a dict; raises UsageError when it is not a JSON object."""
    file = folder / "config.json"
    try:
        config = json.loads(read_input(file, MOST_CONFIG))
    except UnreadableInput as error:
        raise UsageError(f"{model_id}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{model_id}: {file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise UsageError(f"{model_id}: {file} holds a {type(config).__name__}, not an object")
    return config


def cast(module: Any, dtype: str | None) -> None:
    """Cast every floating parameter in place, scales and biases of quantized weights among them."""
    import mlx.core as mx

    if dtype is not None:
        module.set_dtype(getattr(mx, dtype))
    mx.eval(module.parameters())


def card_of(module: Any, config: dict[str, Any], model_id: str, source: str) -> ModelCard:
    """Describe a loaded model: vocabulary and dtypes are read off the module, the architecture off its config."""
    return ModelCard(
        id=model_id,
        source=source,
        architecture=str(config.get("model_type", "unknown")),
        layers=len(module.layers),
        vocab=vocabulary_size(config),
        dtype=activation_dtype(module),
        quantization=quantization_text(module),
    )


def vocabulary_size(config: dict[str, Any]) -> int:
    """Return how many logits the model has; multimodal configurations keep the number in `text_config`."""
    text = config.get("text_config")
    return int(config.get("vocab_size") or (text.get("vocab_size", 0) if isinstance(text, dict) else 0))


def activation_dtype(module: Any) -> str:
    """Return the dtype of the largest floating parameter: the embedding, or its scales where it is quantized."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    parameters = [array for _, array in tree_flatten(module.parameters()) if mx.issubdtype(array.dtype, mx.floating)]
    largest = max(parameters, key=lambda array: array.size)
    return str(largest.dtype).removeprefix("mlx.core.")


def quantization_text(module: Any) -> str | None:
    """Return such as "4-bit, group 32" for what most quantized modules use, or None."""
    from harness.models.dequantised import quantised_layers

    schemes = Counter(f"{layer.bits}-bit, group {layer.group_size}" for layer in quantised_layers(module).values())
    return schemes.most_common(1)[0][0] if schemes else None


def _load_module(folder: Path, trust_remote_code: bool) -> Any:
    from mlx_lm.utils import load_model

    # mlx-lm refuses a folder's own Python unless told otherwise; older releases do not know the keyword.
    trusted = {"trust_remote_code": True} if trust_remote_code else {}
    module, _ = load_model(folder, lazy=True, **trusted)
    return module


def load_tokenizer(folder: Path, model_id: str, config: dict[str, Any], trusted: bool = False) -> Tokenizer | None:
    """Return the tokenizer of an mlx-lm folder, or None where it has none. Raises UsageError with what mlx-lm says."""
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    from mlx_lm import utils

    with _blaming(f"{model_id}: the tokenizer in {folder} cannot be loaded"):
        tokenizer: Tokenizer = utils.load_tokenizer(
            folder, {"trust_remote_code": trusted}, eos_token_ids=config.get("eos_token_id")
        )
    return tokenizer


def one_line(error: BaseException) -> str:
    """Return the first line of an error's text, with the second where the first announces it, or its type's name."""
    text = described(error).removeprefix(f"{type(error).__name__}: ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1]) if lines else type(error).__name__
