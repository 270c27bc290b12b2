"""A small model of mlx-lm as a folder on disk, with a config.json that may say more than mlx-lm reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from harness.models.sources import miniatures


def save_model(folder: Path, architecture: str = "llama", without: tuple[str, ...] = (), **stated: Any) -> Path:
    """Write the architecture's miniature, its config.json changed by `stated` and lacking the keys of `without`."""
    # The special tokens of transformers' classes lie outside the small vocabulary.
    config = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2} | miniatures.small_config(architecture)
    module = miniatures.load(architecture).module
    folder.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(module.parameters())))
    kept = {key: value for key, value in (config | stated).items() if key not in without}
    (folder / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    return folder
