"""Who is timed: each makes the same sweep, and hands back last-token logits, so that a wrong one cannot look fast.

Preparing a contender (copying weights, importing a library) is not timed; it raises Absent where it cannot take part,
and the results say why. The sweep is `mlp_out` at every layer, denoising, at all positions.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np

from harness.diagnosis import diagnose
from harness.diagnosis.causes.arithmetic import OVERFLOW, verdict_of
from harness.diagnosis.causes.cause import cause_of
from harness.diagnosis.causes.origin import origin_of
from harness.diagnosis.trail.flow import trail
from harness.diagnosis.trail.operations import replay
from harness.engines import ENGINES, answer
from harness.intercept import Tap, forward, resolve, tapped
from harness.intercept.constancy import Constancy
from harness.intercept.swap import exchanged
from harness.metrics import host_row, measure
from harness.models import LoadedModel
from harness.patching import walk
from harness.patching.remembered import VARIABLE as PROOFS
from harness.patching.remembered import kept, trusting
from harness.vocabulary import Question, Sweep, Tokens
from harness.vocabulary.errors import HarnessError

Rows = Sequence[Any] | Mapping[int, float] | None
"""Last-token logits `[vocab]` of every cell, NumPy or MLX; or the l2 recovery (percent) of each layer; or nothing."""
Run = Callable[[], Rows]


class Absent(Exception):
    """This contender does not take part here; the text says why."""


def question(loaded: LoadedModel, tokens: int, sweep: Sweep | None = None, differ: int = 0) -> Question:
    """Return two prompts of `tokens` tokens that differ in token `differ` alone, and a sweep over every layer's MLP."""
    vocab = loaded.card.vocab or 1000
    clean = tuple((97 * i + 5) % vocab for i in range(tokens))
    corrupted = tuple((each + (i == differ)) % vocab for i, each in enumerate(clean))
    texts = tuple(map(str, range(tokens)))
    return Question(Tokens(clean, texts), Tokens(corrupted, texts), sweep or Sweep(("mlp_out",)), ("l2",))


def prepare(name: str, loaded: LoadedModel, tokens: int, differ: int = 0) -> Run:
    """Return what is timed. Raises Absent, and so does what is returned."""
    asked = question(loaded, tokens, differ=differ)
    if name not in FOREIGN:
        return CONTENDERS[name](loaded, asked)
    run = _excused(lambda: CONTENDERS[name](loaded, asked))
    return lambda: _excused(run)


def _excused(step: Callable[[], Any]) -> Any:
    """Let another library fail in any way it likes without ending the benchmark."""
    try:
        return step()
    except Absent:
        raise
    except Exception as error:
        raise Absent(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error


def _strategy(strategy: str, *, forget: bool = False) -> Callable[[LoadedModel, Question], Run]:
    def prepared(loaded: LoadedModel, asked: Question) -> Run:
        asked = replace(asked, sweep=replace(asked.sweep, strategy=strategy))

        def run() -> Rows:
            if forget:
                loaded.proven.clear()
            return _walked(loaded, asked)

        return run

    return prepared


def _remembered(loaded: LoadedModel, asked: Question) -> Run:
    """What a process pays that finds the proof of an earlier one: everything that the model runs is looked at again."""
    asked = replace(asked, sweep=replace(asked.sweep, strategy="auto"))
    place = tempfile.TemporaryDirectory()

    def run() -> Rows:
        os.environ[PROOFS] = place.name
        loaded.proven.clear()
        with trusting():
            return _walked(loaded, asked)

    run()
    if not kept():
        raise Absent("no proof of this model is remembered")
    return run


def _walked(loaded: LoadedModel, asked: Question) -> Rows:
    steps = walk(loaded, asked)
    if steps.fallback:
        raise Absent(steps.fallback)
    rows = []
    for site, row in steps.patched:
        mx.eval(row)
        rows.append((site.layer, _place(site.position), row))
    mx.eval(steps.clean, steps.corrupted)
    return [row for *_, row in sorted(rows, key=lambda cell: cell[:2])]


def _place(position: str) -> int:
    return int(position) if position.isdigit() else -1


def _forwards(loaded: LoadedModel, asked: Question) -> Run:
    """2L+2 full forward passes with the logits of every position: two baselines, then clean and patched per layer."""
    points = resolve(loaded, asked.sweep)
    clean, corrupted = (mx.array([tokens.ids]) for tokens in (asked.clean, asked.corrupted))

    def run() -> Rows:
        for ids in (clean, corrupted):
            mx.eval(loaded.module(ids))
        rows = []
        for point in points:
            kept: list[mx.array] = []
            with tapped(loaded.module, [Tap(point.module, _keep(kept))]):
                mx.eval(loaded.module(clean), kept)
            with tapped(loaded.module, [Tap(point.module, lambda call, args, kwargs, kept=kept: kept[0])]):
                logits = loaded.module(corrupted)
                mx.eval(logits)
            rows.append(logits[0, -1])
        return rows

    return run


def _keep(kept: list[mx.array]) -> Callable[..., Any]:
    def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kept.append(call(*args, **kwargs))
        return kept[-1]

    return handler


def _mlxterp(loaded: LoadedModel, asked: Question) -> Run:
    try:
        library = importlib.import_module("mlxterp")
    except ImportError as error:
        raise Absent(f"not installed ({error})") from error
    model = library.InterpretableModel(loaded.module, tokenizer=_Ids(asked))

    def run() -> Rows:
        with contextlib.redirect_stdout(io.StringIO()):
            recoveries = model.activation_patching("clean", "corrupted", component="mlp", metric="l2")
        if len(recoveries) != len(resolve(loaded, asked.sweep)):
            raise Absent(f"it patched {len(recoveries)} layers")
        return recoveries

    return run


class _Ids:
    """A tokenizer that hands mlxterp the ids everybody else is given."""

    def __init__(self, asked: Question):
        self.ids = {"clean": list(asked.clean.ids), "corrupted": list(asked.corrupted.ids)}

    def encode(self, text: str) -> list[int]:
        return self.ids[text]


def _torch(name: str) -> Callable[[LoadedModel, Question], Run]:
    def prepared(loaded: LoadedModel, asked: Question) -> Run:
        try:
            library = importlib.import_module("torch_contenders")
        except ImportError as error:
            raise Absent(f"not installed ({error})") from error
        run: Run = getattr(library, name)(loaded, asked)
        return run

    return prepared


def _grid(loaded: LoadedModel, asked: Question) -> Run:
    asked = replace(asked, sweep=replace(asked.sweep, positions="each", strategy="one-pass"))
    try:
        _walked(loaded, asked)
    except HarnessError as error:
        raise Absent(str(error)) from error
    return lambda: _walked(loaded, asked)


def _cell_by_cell(loaded: LoadedModel, asked: Question) -> Run:
    """One forward pass for each layer and position, the recording made once a position."""

    def run() -> Rows:
        by_position = [
            _walked(loaded, replace(asked, sweep=replace(asked.sweep, positions=(position,), strategy="stepwise")))
            for position in range(len(asked.clean.ids))
        ]
        return [row for rows in zip(*by_position, strict=True) for row in rows]  # type: ignore[arg-type]

    return run


def _forward(loaded: LoadedModel, asked: Question) -> Run:
    def run() -> Rows:
        logits = loaded.module(mx.array([asked.clean.ids]))[0, -1]
        mx.eval(logits)
        return [logits]

    return run


def _trail(loaded: LoadedModel, asked: Question) -> Run:
    """The same forward pass with everything that goes into a module or comes out of it looked at."""
    return lambda: [trail(loaded.module, asked.clean.ids, "clean").logits[-1]]


def _asked_thrice(loaded: LoadedModel, asked: Question) -> Run:
    """Whether the model is a function of its input: the first A and B are runs that a diagnosis makes anyway."""

    def run() -> Rows:
        constancy = Constancy(loaded)
        first = forward(loaded, asked.clean.ids)
        forward(loaded, asked.corrupted.ids)
        if constancy.judged(first, asked.clean.ids, asked.corrupted.ids):
            raise Absent("the model is no function of its input")
        return [first]

    return run


def _overflowing(step: Callable[[LoadedModel, Question], Any], seen: Callable[[Any], bool]) -> Any:
    """Return what takes a step with a model in the middle of which an exponential leaves the range of every dtype.

    `seen` says whether the step did what is timed. In float32 no wider dtype is tried, and no subset searched for.
    """

    def prepared(loaded: LoadedModel, asked: Question) -> Run:
        def scaled(own: Callable[..., mx.array], args: tuple[Any, ...], kwargs: dict[str, Any]) -> mx.array:
            return own(*args, **kwargs) * mx.exp(mx.array(100.0))

        def run() -> Rows:
            with exchanged(loaded.module, [(_middle(loaded), scaled)]):
                found = step(loaded, asked)
            if not seen(found):
                raise Absent(f"the overflow was not found: {found}")
            return None

        return run

    return prepared


def _in_float64(loaded: LoadedModel, asked: Question) -> Any:
    mlp = next(name for name, module in loaded.module.named_modules() if module is _middle(loaded))
    origin = origin_of(replay(loaded.module, asked.clean.ids, mlp, 1))
    return verdict_of(origin) if origin else None


def _middle(loaded: LoadedModel) -> Any:
    return loaded.module.layers[loaded.card.layers // 2].mlp


def _cause(loaded: LoadedModel, asked: Question) -> Any:
    """The trail is a part of it: a cause is sought in one."""
    return cause_of(loaded.module, trail(loaded.module, asked.clean.ids, "clean"))


def _diagnosis(loaded: LoadedModel, asked: Question) -> Any:
    return diagnose(loaded, clean=asked.clean.ids, corrupted=asked.corrupted.ids).cause


def _sound(loaded: LoadedModel, asked: Question) -> Run:
    """A model without a fault: the sweep of the engine is in it."""

    def run() -> Rows:
        if found := _diagnosis(loaded, asked):
            raise Absent(f"a sound model was accused: {found}")
        return None

    return run


def _answered(metrics: tuple[str, ...] = ("l2",), components: tuple[str, ...] = ("mlp_out",)) -> Any:
    def prepared(loaded: LoadedModel, asked: Question) -> Run:
        sweep = replace(asked.sweep, components=components, strategy="one-pass")
        asked = replace(asked, metrics=metrics, sweep=sweep)

        def run() -> Rows:
            answer(ENGINES["native"], loaded, asked)
            return None

        return run

    return prepared


CONTENDERS: Mapping[str, Callable[[LoadedModel, Question], Run]] = {
    "one-pass": _strategy("one-pass"),
    "one-pass and its proof": _strategy("auto", forget=True),
    "one-pass, its proof remembered": _remembered,
    "stepwise": _strategy("stepwise"),
    "2L+2 forwards": _forwards,
    "mlxterp": _mlxterp,
    "torch hooks": _torch("hooks"),
    "TransformerLens": _torch("transformer_lens"),
    "grid": _grid,
    "grid, cell by cell": _cell_by_cell,
    "forward": _forward,
    "forward with its trail": _trail,
    "A, B, A": _asked_thrice,
    "operation in float64": _overflowing(_in_float64, lambda found: bool(found and found.kind == OVERFLOW)),
    "cause": _overflowing(_cause, lambda found: found.code == "DIA214"),
    "diagnosis of an overflow": _overflowing(_diagnosis, lambda found: bool(found and found.code == "DIA214")),
    "diagnosis": _sound,
    "one metric": _answered(),
    "three metrics": _answered(("l2", "mse", "cosine")),
    "one component": _answered(),
    "two components": _answered(components=("mlp_out", "attn_out")),
}


FOREIGN = ("mlxterp", "torch hooks", "TransformerLens")
"""Contenders that are other people's code."""


def difference(reference: Sequence[Any], rows: Sequence[Any]) -> float:
    """Return the largest difference to the reference's logits, as a share of the largest logit of its row."""
    if len(reference) != len(rows):
        return float("inf")
    worst = 0.0
    for wanted, got in zip(map(_host, reference), map(_host, rows), strict=True):
        worst = max(worst, float(np.abs(wanted - got).max() / np.abs(wanted).max()))
    return worst


def recoveries(loaded: LoadedModel, asked: Question, rows: Sequence[Any]) -> list[float]:
    """Return the l2 recovery (percent) of every row, for a contender that shows nothing else."""
    steps = walk(loaded, asked)
    clean, corrupted = host_row(steps.clean), host_row(steps.corrupted)
    baseline = measure("l2", clean, corrupted).value or float("nan")
    return [100 * (baseline - (measure("l2", clean, _host(row)).value or 0.0)) / baseline for row in rows]


def _host(row: Any) -> Any:
    return host_row(row) if isinstance(row, mx.array) else np.asarray(row, np.float64)
