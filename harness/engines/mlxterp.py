"""mlxterp (coairesearch/mlxterp), in whichever of its three shapes is installed.

    method      `InterpretableModel.activation_patching`: percent, printed baseline, l2 mse cosine
    positions   the same with `positions=`: a layer x token grid, and metrics with target tokens
    causal      `mlxterp.causal.patching.activation_patching`: fractions, also of the residual stream and of heads

The engine is the newest shape that is found, by looking and not by version: no release has a number of its own yet.
`mlxterp-method` is the method where the package has both. It is asked as its users ask: with their words for
components, with text where the model's tokenizer gives these ids for it, with positions as they were written.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

from harness.engines.declaration import Declaration
from harness.engines.foreign import EngineRequest, ForeignEngine, Reply
from harness.engines.roles import CellPlace
from harness.models.loaded import Tokenizer
from harness.support.checkout import origin_of
from harness.vocabulary.errors import EngineUnavailable, HarnessError, UsageError, described

MLXTERP = ("mlxterp", "mlxterp-method")
INSTALL = "mlxterp is not installed; pip install git+https://github.com/coairesearch/mlxterp"


@dataclass(frozen=True)
class TensorShape:
    """One form of the interface: how to ask it, and what it can do."""

    name: str
    declared: Declaration
    ask: Callable[[Any, EngineRequest], Reply]


def mlxterp_engine(name: str = "mlxterp") -> ForeignEngine:
    """Return the installed mlxterp as an engine: its newest shape, or as `mlxterp-method` that of its method.

    Raises EngineUnavailable where absent, UsageError where broken.
    """
    try:
        package, shapes = _found()
    except (HarnessError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UsageError(f"the installed mlxterp cannot be imported: {described(error)}") from error
    shape = next((each for each in shapes if name == "mlxterp" or each.ask is _ask_method), None)
    if shape is None:
        raise EngineUnavailable(f"the installed mlxterp has no activation_patching that is {name}")

    declared = shape.declared.come_from(origin_of(package))
    return ForeignEngine(
        name, f"mlxterp, shape {shape.name}", metrics=frozenset(declared.metrics), declared=declared,
        ask=lambda request: shape.ask(package, request), left_behind=_left_on_stack,
    )  # fmt: skip


def _found() -> tuple[Any, list[TensorShape]]:
    if importlib.util.find_spec("mlxterp") is None:
        raise EngineUnavailable(INSTALL)
    with redirect_stdout(StringIO()):
        package = importlib.import_module("mlxterp")
    return package, shapes_of(package)


def _left_on_stack() -> str | None:
    context = importlib.import_module("mlxterp.core.proxy").TraceContext
    if not context._stack:
        return None
    left = len(context._stack)
    context._stack.clear()
    return f"{left} trace contexts are left on mlxterp's stack"


def shapes_of(package: Any) -> list[TensorShape]:
    """Return the forms of the interface that a package has, the newest first."""
    method = getattr(package.InterpretableModel, "activation_patching", None)
    if method is None:
        found = []
    elif "positions" in inspect.signature(method).parameters:
        found = [TensorShape("positions", _POSITIONS, _ask_method)]
    else:
        found = [TensorShape("method", _METHOD, _ask_method)]
    if importlib.util.find_spec(f"{package.__name__}.causal") is not None:
        found.insert(0, TensorShape("causal", _CAUSAL, _ask_causal))
    return found


_METHOD = Declaration(
    units="percent",
    metrics=("l2", "mse", "cosine"),
    components=("mlp", "self_attn", "attn", "output", "paths"),
)
_POSITIONS = _METHOD.model_copy(
    update={"metrics": ("l2", "mse", "cosine", "logit_diff", "kl_divergence"), "positions": ("all", "each")}
)
_CAUSAL = Declaration(
    units="fraction",
    metrics=("l2", "cosine", "logit_diff", "kl_divergence"),
    components=("mlp", "self_attn", "attn", "resid_post", "resid_pre", "z", "paths"),
    positions=("all", "last", "list"),
)


# -- asking ------------------------------------------------------------------------------------------------------------


def _ask_method(package: Any, request: EngineRequest) -> Reply:
    clean, corrupted, tokenizer = _as_text(request)
    model = package.InterpretableModel(request.model, tokenizer=tokenizer)
    options: dict[str, Any] = {}
    if request.positions == "each":
        options["positions"] = "all"
    if request.metric == "logit_diff" and request.answers is not None:
        options["clean_target"] = tokenizer.word(request.answers.answer)
        options["corrupted_target"] = tokenizer.word(request.answers.wrong)
    text = StringIO()
    try:
        with redirect_stdout(text):
            found = model.activation_patching(
                clean, corrupted, component=_renamed(request.component, "output"), layers=list(request.layers),
                metric=request.metric, **options,
            )  # fmt: skip
    finally:
        print(text.getvalue(), end="")  # on to whoever listens to the engine
    if request.positions == "each":
        grid: dict[CellPlace, float | None] = {
            CellPlace(layer, token): float(value)
            for layer, row in zip(request.layers, found, strict=True)
            for token, value in enumerate(row)
        }
        return Reply(grid, printed_baseline(text.getvalue()))
    return Reply(
        {CellPlace(int(layer)): float(value) for layer, value in found.items()}, printed_baseline(text.getvalue())
    )


def _ask_causal(package: Any, request: EngineRequest) -> Reply:
    patching = importlib.import_module(f"{package.__name__}.causal.patching")
    clean, corrupted, tokenizer = _as_text(request)
    positions = (len(request.clean) - 1,) if request.positions == "last" else request.positions
    keywords = {}
    if request.answers is not None and request.metric == "logit_diff":
        keywords = {"correct_token": request.answers.answer, "incorrect_token": request.answers.wrong}
    found = patching.activation_patching(
        package.InterpretableModel(request.model, tokenizer=tokenizer),
        clean,
        corrupted,
        layers=list(request.layers),
        component={"z": "attn_head"}.get(request.component, _renamed(request.component, "resid_post")),
        metric=_kl_recovery(package) if request.metric == "kl_divergence" else request.metric,
        positions=None if positions == "all" else list(positions),
        metric_kwargs=keywords,
    )
    return Reply(dict(_effects(found.data["effects"])))


def _effects(effects: Mapping[int, Any]) -> Iterator[tuple[CellPlace, float]]:
    for layer, effect in effects.items():
        if isinstance(effect, Mapping):
            yield from ((CellPlace(int(layer), None, int(head)), float(value)) for head, value in effect.items())
        else:
            yield CellPlace(int(layer)), float(effect)


def _kl_recovery(package: Any) -> Callable[..., float]:
    """Return mlxterp's own divergence as the share of it that a patch takes away: by itself it returns -KL(clean || x),
    which is no recovery."""
    divergence = importlib.import_module(f"{package.__name__}.metrics").get_metric("kl_divergence")

    def recovery(patched: Any, clean: Any, corrupted: Any) -> float:
        baseline = divergence(corrupted, clean, corrupted)
        return 1 - divergence(patched, clean, corrupted) / baseline if baseline else math.nan

    return recovery


def _renamed(component: str, own: str) -> str:
    """Return the shape's own word for a block's output, and any other component as it is."""
    return own if component in ("output", "resid_post") else component


_PRINTED = re.compile(r"Baseline \S+ distance: (\S+)")


def printed_baseline(text: str) -> float | None:
    """Return the baseline that mlxterp prints, with four decimals, and does not return.

    A number with fewer than four digits left says nothing about its precision and is not taken.
    """
    found = _PRINTED.search(text)
    if found is None:
        return None
    value = float(found[1])
    return None if abs(value) < 0.1 else value


class Texts:
    """A tokenizer for mlxterp, which takes text: real text where the model's tokenizer gives the ids for it, with the
    tokens it adds itself, else a stand-in."""

    def __init__(self, tokenizer: Tokenizer | None):
        self.tokenizer = tokenizer
        self.stands: dict[str, list[int]] = {}

    def text(self, ids: Sequence[int]) -> str:
        """Return text that encodes to these ids."""
        return self._real((ids, ids[1:]), (list(ids),)) or self._stand_in(ids)

    def word(self, token: int) -> str:
        """Return the text of one token, as users write it: a tokenizer that begins every text does so here too."""
        begun = [*self._encoded("")[:1], token]
        return self._real(((token,),), ([token], begun)) or self._stand_in((token,))

    def _real(self, parts: Sequence[Sequence[int]], wanted: Sequence[list[int]]) -> str | None:
        """Return the text of the first part that encodes to one of the wanted lists; None where none does."""
        if self.tokenizer is None:
            return None
        try:
            texts = [self.tokenizer.decode(list(part)) for part in parts]
        except Exception:  # noqa: BLE001  a tokenizer that cannot say so is one that needs a stand-in
            return None
        return next((text for text in texts if text and self._encoded(text) in wanted), None)

    def _encoded(self, text: str) -> list[int]:
        try:
            return list(self.tokenizer.encode(text)) if self.tokenizer is not None else []
        except Exception:  # noqa: BLE001  as above
            return []

    def _stand_in(self, ids: Sequence[int]) -> str:
        name = f"<{' '.join(map(str, ids))}>"
        self.stands[name] = list(ids)
        return name

    def encode(self, text: str, **kwargs: Any) -> list[int]:
        if text in self.stands:
            return list(self.stands[text])
        assert self.tokenizer is not None  # only a tokenizer makes text that is no stand-in
        return list(self.tokenizer.encode(text))

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids) if self.tokenizer is not None else " ".join(map(str, ids))


def _as_text(request: EngineRequest) -> tuple[str, str, Texts]:
    tokenizer = Texts(request.tokenizer)
    return tokenizer.text(request.clean), tokenizer.text(request.corrupted), tokenizer
