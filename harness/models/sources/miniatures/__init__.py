"""Miniatures: every architecture of the installed mlx-lm in a small configuration with seeded weights.

A configuration is derived from the architecture's own `ModelArgs`: `rules.py` knows the small size of a key, whoever
uses it, and `overrides.py` what an architecture needs besides. Built in float32, because on the CPU unquantised
mixtures of experts run in no other dtype.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from harness.models.loaded import LoadedModel
from harness.models.sources.folder import card_of, cast, one_line
from harness.models.sources.installed import architectures, code_of
from harness.models.sources.miniatures.overrides import OVERRIDES, TEXT
from harness.models.sources.miniatures.rules import SIZES
from harness.models.sources.weights import fill
from harness.vocabulary.errors import UnknownName, UsageError

__all__ = ["MOST_PARAMETERS", "architectures", "load", "small_config"]

MOST_PARAMETERS = 10_000_000
"""A small configuration stays below this; a default size that slipped through is found before memory is taken."""


def small_config(architecture: str, change: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a configuration of the architecture that builds in a second, with the keys of `change` in it.

    A wrapper keeps its language model's keys under `text_config`, and that is where `change` goes there. Raises
    UnknownName for an architecture that the installed mlx-lm lacks.
    """
    if architecture not in architectures():
        raise UnknownName("model architecture", architecture, architectures())
    config = _derived(architecture, "ModelArgs") | {**OVERRIDES.get(architecture, {})}
    if architecture not in TEXT:
        return config | {**(change or {}), "model_type": architecture}
    inner, args = TEXT[architecture]
    shared = {} if inner == architecture else OVERRIDES.get(inner, {})
    text = {**_derived(inner, args), **shared, "model_type": inner, **config.get("text_config", {}), **(change or {})}
    return config | {"text_config": text, "model_type": architecture}


def load(architecture: str, seed: int = 0, change: Mapping[str, Any] | None = None) -> LoadedModel:
    """Build the architecture's small model in float32, its weights a function of the seed.

    Raises UsageError where it cannot be built, or is larger than MOST_PARAMETERS.
    """
    try:
        config = small_config(architecture, change)
        code = code_of(architecture)
        module = code.Model(code.ModelArgs.from_dict(config))
    except (Exception, SystemExit) as error:  # olmo ends the process where a package of its own is absent
        raise UsageError(f"{architecture} cannot be built: {one_line(error)}") from error
    _check_size(module, architecture)
    fill(module, seed, 1.0)
    cast(module, "float32")
    return LoadedModel(card_of(module, config, architecture, "synthetic"), module)


def _derived(architecture: str, args: str) -> dict[str, Any]:
    known = inspect.signature(getattr(code_of(architecture), args)).parameters
    return {key: SIZES[key] for key in known if key in SIZES}


def _check_size(module: Any, architecture: str) -> None:
    from mlx.utils import tree_flatten

    count = sum(array.size for _, array in tree_flatten(module.parameters()))
    if count > MOST_PARAMETERS:
        raise UsageError(f"{architecture}: {count:,} parameters, a small configuration has at most {MOST_PARAMETERS:,}")
