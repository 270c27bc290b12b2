"""Engines: whoever answers a sweep.

native              our own patching, float64 on the host
legacy, published   our own patching under the formulas of the report, before and after its fix, kept to be caught
attribution         estimates by gradients, one backward pass a metric (attribution-ig: integrated gradients)
mlxterp             the installed mlxterp, asked, watched and taken apart (mlxterp-method: its older interface)
transformers        another implementation of the same folder, in float64 (transformers-float32: in float32)
a function          one of the user's own, the same way; as `module:callable` only where running code is allowed
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.engines import estimate, foreign, formula
from harness.engines.estimate import ATTRIBUTION, ATTRIBUTION_IG, EstimateEngine
from harness.engines.foreign import ForeignEngine
from harness.engines.formula import Engine
from harness.engines.legacy import LEGACY
from harness.engines.mlxterp import MLXTERP, mlxterp_engine
from harness.engines.native import NATIVE
from harness.engines.published import PUBLISHED
from harness.engines.transformers import DTYPES, transformers_engine
from harness.models.loaded import LoadedModel
from harness.support.user_code import function_named
from harness.vocabulary import Answer, Question, code_refusal, is_code
from harness.vocabulary.errors import UnknownName, UsageError

ENGINES: Mapping[str, Engine] = {
    engine.name: engine for engine in (NATIVE, LEGACY, PUBLISHED, ATTRIBUTION, ATTRIBUTION_IG)
}
INSTALLED = (*MLXTERP, *DTYPES)
"""Engines that are a package of somebody else's, loaded when they are asked for."""

NAMES = (*ENGINES, *INSTALLED)


def engine_of(engine: str | Engine | Callable[..., Any], allow_code: bool = False) -> Engine:
    """Return what a caller from Python means by an engine: a name, an Engine, or a function (`docs/engines.md`).

    A function that is given is there already and needs no permission. Raises what `engine_named` raises.
    """
    if isinstance(engine, Engine):
        return engine
    if isinstance(engine, str):
        return engine_named(engine, allow_code, permission="allow_code=True")
    if not callable(engine):
        raise UsageError(f"{engine!r} is no engine; give a name, an Engine, or a function with a `harness` declaration")
    from harness.engines.function import function_engine

    return function_engine(engine)


def engine_named(name: str, allow_code: bool = False, permission: str = "--allow-code") -> Engine:
    """Return an engine by name. Imports somebody's `module:callable` only where `allow_code` says so; `permission` is
    what the caller says it with.

    Raises UnknownName, UsageError, and EngineUnavailable for a package that is not installed.
    """
    if is_code(name):
        if not allow_code:
            raise UsageError(code_refusal("engine", name, permission))
        from harness.engines.function import function_engine

        return function_engine(function_named(name, "engine"), name)
    if name in DTYPES:
        return transformers_engine(name)
    if name in INSTALLED:
        return mlxterp_engine(name)
    if name not in ENGINES:
        raise UnknownName("engine", name, NAMES)
    return ENGINES[name]


def answer(engine: Engine, model: LoadedModel, question: Question) -> Answer:
    """Ask an engine.

    Raises FindingError or UsageError when the question cannot be asked of this model, EngineUnavailable when the engine
    does not claim to answer it, and whatever a foreign engine raises.
    """
    if isinstance(engine, ForeignEngine):
        return foreign.answer(engine, model, question)
    if isinstance(engine, EstimateEngine):
        return estimate.answer(engine, model, question)
    return formula.answer(engine, model, question)


__all__ = ["ENGINES", "NAMES", "Engine", "ForeignEngine", "answer", "engine_named", "engine_of"]
