"""Engines: whoever answers a sweep.

An engine here is our own patching under a formula: `native` measures in float64 on the host, `legacy` and `published`
are the formulas of the report, before and after its fix, kept to be caught (and to show what the fix still hides).
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.engines.formula import Engine, answer
from harness.engines.legacy import LEGACY
from harness.engines.native import NATIVE
from harness.engines.published import PUBLISHED
from harness.errors import UnknownName

ENGINES: Mapping[str, Engine] = {engine.name: engine for engine in (NATIVE, LEGACY, PUBLISHED)}


def engine_named(name: str) -> Engine:
    """Return an engine by name. Raises UnknownName."""
    if name not in ENGINES:
        raise UnknownName("engine", name, ENGINES)
    return ENGINES[name]


__all__ = ["ENGINES", "Engine", "answer", "engine_named"]
