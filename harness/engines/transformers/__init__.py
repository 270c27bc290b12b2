"""transformers (huggingface/transformers): the same folder, run by an implementation that shares no code with mlx-lm.

    model.py   a folder as a torch model, in float64 or float32, and the module that each hook point is there
    runs.py    recording, patching and reading it by forward hooks

Laws cannot see a model that is wrong throughout: they hold of any function. Another implementation of the same weights
can. It gives the logits, `harness.metrics` the numbers. `transformers` computes in float64 throughout, so that what
differs is MLX's rounding or somebody's mistake; `transformers-float32` in float32.

torch is an optional extra (`reference`), and is imported only when a question is asked.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version

from harness.engines.formula import Engine
from harness.models.loaded import LoadedModel
from harness.patching import Walk
from harness.vocabulary import Question
from harness.vocabulary.errors import EngineUnavailable

DTYPES: Mapping[str, str] = {"transformers": "float64", "transformers-float32": "float32"}
"""Name of the engine -> what it computes in."""


def missing() -> str | None:
    """Return why no question can be asked here, or None."""
    absent = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if not absent:
        return None
    return f"{' and '.join(absent)} not installed; pip install torch transformers"


def transformers_engine(name: str) -> Engine:
    """Return the engine of this name. Raises EngineUnavailable where torch or transformers is not installed."""
    if reason := missing():
        raise EngineUnavailable(reason)
    stated = f"{version('transformers')}, torch {version('torch')}"
    return Engine(name, f"transformers in {DTYPES[name]}", walk=partial(_walk, DTYPES[name]), release=stated)


def _walk(dtype: str, model: LoadedModel, question: Question) -> Walk:
    if question.sweep.value != "other":
        raise EngineUnavailable(f"transformers puts in the other run's activation only, not {question.sweep.value}")
    from harness.engines.transformers.runs import walk

    return walk(dtype, model, question)
