"""Models in a local mlx-lm folder: `config.json`, `*.safetensors` and a tokenizer.

Every source that ends in a folder (path, wheel, hub) loads it here.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from harness.models.loaded import LoadedModel, Tokenizer
from harness.models.spec import PathRow
from harness.vocabulary import ModelCard
from harness.vocabulary.errors import UsageError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "tiktoken.model", "qwen.tiktoken")


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
    module = _load_module(folder, model_id, trust_remote_code)
    tokenizer = load_tokenizer(folder, model_id, config, trust_remote_code)
    cast(module, dtype)
    return LoadedModel(card_of(module, config, model_id, source), module, tokenizer)


def read_config(folder: Path, model_id: str) -> dict[str, Any]:
    """Return `config.json` as a dict; raises UsageError when it is not a JSON object."""
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
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
    return int(config.get("vocab_size") or config.get("text_config", {}).get("vocab_size", 0))


def activation_dtype(module: Any) -> str:
    """Return the dtype of the largest floating parameter: the embedding, or its scales where it is quantized."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    parameters = [array for _, array in tree_flatten(module.parameters()) if mx.issubdtype(array.dtype, mx.floating)]
    largest = max(parameters, key=lambda array: array.size)
    return str(largest.dtype).removeprefix("mlx.core.")


def quantization_text(module: Any) -> str | None:
    """Return such as "4-bit, group 32" for what most quantized modules use, or None."""
    schemes = Counter(
        f"{child.bits}-bit, group {child.group_size}"
        for _, child in module.named_modules()
        if "scales" in child and hasattr(child, "bits")
    )
    return schemes.most_common(1)[0][0] if schemes else None


def _load_module(folder: Path, model_id: str, trust_remote_code: bool) -> Any:
    from mlx_lm.utils import load_model

    # mlx-lm refuses a folder's own Python unless told otherwise; older releases do not know the keyword.
    trusted = {"trust_remote_code": True} if trust_remote_code else {}
    try:
        module, _ = load_model(folder, lazy=True, **trusted)
    except (ValueError, TypeError, KeyError, FileNotFoundError, RuntimeError) as error:
        raise UsageError(f"{model_id}: mlx-lm cannot load {folder}: {one_line(error)}") from error
    return module


def load_tokenizer(folder: Path, model_id: str, config: dict[str, Any], trusted: bool = False) -> Tokenizer | None:
    """Return the tokenizer of an mlx-lm folder, or None where it has none. Raises UsageError with what mlx-lm says."""
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return None
    from mlx_lm.utils import load_tokenizer

    try:
        tokenizer: Tokenizer = load_tokenizer(
            folder, {"trust_remote_code": trusted}, eos_token_ids=config.get("eos_token_id")
        )
    except (ValueError, TypeError, KeyError, OSError, ImportError) as error:
        raise UsageError(f"{model_id}: the tokenizer in {folder} cannot be loaded: {one_line(error)}") from error
    return tokenizer


def one_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type's name."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
