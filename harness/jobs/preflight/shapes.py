"""What a row of the model table says of a model that is not loaded: architecture, layers, vocabulary, files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.models.sources.folder import read_config, vocabulary_size
from harness.models.sources.hub import cached
from harness.models.sources.smollm2 import SMOLLM2
from harness.models.sources.synthetic import LAYER_KEYS
from harness.models.sources.wheel import described_in
from harness.models.spec import CircuitRow, DialRow, HubRow, ModelRow, PathRow, SyntheticRow, WheelRow
from harness.vocabulary.errors import ModelUnavailable, UsageError

_LAYER_COUNTS = (*LAYER_KEYS, "num_layers", "n_layers")


@dataclass(frozen=True)
class ModelShape:
    """A model from the outside; None where the row and the files on this machine do not say."""

    architecture: str | None = None
    layers: int | None = None
    vocab: int | None = None
    folder: Path | None = None
    missing: str = ""
    """Why something is None."""


def shape_of(row: ModelRow) -> ModelShape:
    """Return what is known of a row's model without loading it."""
    match row:
        case DialRow():
            return ModelShape("dial", len(row.weights), row.vocab)
        case CircuitRow():
            return ModelShape(row.architecture, row.layers, row.vocab)
        case SyntheticRow():
            return _synthetic(row)
        case WheelRow():
            kind = "4bit" if row.quantized else "float16"
            converted = described_in(SMOLLM2)
            return _stored(row, converted / kind if converted else None)
        case HubRow():
            return _stored(row, cached(row) if _may_be_cached(row) else None)
        case PathRow():
            folder = Path(row.path).expanduser()
            return _stored(row, folder if folder.is_dir() else None)


def _synthetic(row: SyntheticRow) -> ModelShape:
    counts = [int(row.config[key]) for key in _LAYER_COUNTS if isinstance(row.config.get(key), int)]
    return ModelShape(row.architecture, counts[0] if counts else row.layers, row.vocab)


def _may_be_cached(row: HubRow) -> bool:
    """Return whether the hub's cache has a folder for the repository; the hub's own library takes long to ask."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or Path(home, "hub")
    return (Path(cache).expanduser() / f"models--{row.repo.replace('/', '--')}").is_dir()


def _stored(row: WheelRow | HubRow | PathRow, folder: Path | None) -> ModelShape:
    if folder is None:
        return ModelShape(missing=f"{row.id} is not on this machine")
    try:
        config = read_config(folder, row.id)
    except (OSError, UsageError, ModelUnavailable):
        return ModelShape(folder=folder, missing=f"{row.id} has no config.json that can be read")
    inner = config.get("text_config")
    both = [config, inner] if isinstance(inner, dict) else [config]
    counts = [each[key] for each in both for key in _LAYER_COUNTS if isinstance(each.get(key), int)]
    why = f"the config.json of {row.id} does not say"
    return ModelShape(config.get("model_type"), counts[0] if counts else None, vocabulary_size(config), folder, why)
