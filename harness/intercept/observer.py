"""Watching somebody else's forward passes: what went in, what came out, and where a patch struck.

An engine that returns only a dictionary still runs the model. A tap on the model's root sees every run, and taps on the
blocks note what each of them was given, one digest a token. The first block whose input differs from the bare run's
says in which layer a patch was made, and at which tokens; nothing has to be believed of the engine's order of work.
Where `calls` are asked for, every module notes the dtype and the size of what it returns as well: the first module that
differs says where the engine's interception changed the model.

The watch stays out of the way of the engine's own interception: a watched model can be tapped, by the engine too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from harness.intercept.outputs import activation_of
from harness.intercept.swap import Handler, exchanged
from harness.metrics.layouts import dtype_name
from harness.metrics.tolerances import Work, equal, same_bits
from harness.models.architectures import blocks_of
from harness.vocabulary.errors import UsageError
from harness.vocabulary.words import number_of

Digests = tuple[bytes, ...]
"""One digest for each token."""

UNKNOWN = -1
"""The id of a token that a cache had read before anybody watched."""


@dataclass(frozen=True)
class ModuleCall:
    """What one module returned: the sum of its magnitudes, and that of the last token's (0 where there is none)."""

    module: str
    dtype: str
    size: float
    last: float


@dataclass(frozen=True)
class ObservedRun:
    """One prompt of one forward pass.

    `logits` is the last token's row `[vocab]` in the model's dtype. `stages` holds the digests of what every block was
    given, then of the logits at all tokens; it is empty where they could not be read. `calls` are those of all modules
    below the root in the order of execution; it is empty where nobody asked, and in a batch of several prompts.
    `ids` are all that the logits depend on: with a cache, what it had read before, UNKNOWN where nobody saw that. The
    stages are those of the tokens from `start` on. `rows` are the prompts of the pass.
    """

    ids: tuple[int, ...]
    logits: mx.array
    stages: tuple[Digests, ...]
    calls: tuple[ModuleCall, ...] = ()
    start: int = 0
    rows: int = 1
    cached: bool = False

    @property
    def work(self) -> Work:
        """How the run differs from a plain one of its prompt, and so how far it may round apart from that."""
        return Work.IN_PIECES if self.cached else Work.SAME if self.rows == 1 else Work.OTHER_BATCH

    def is_like(self, row: mx.array) -> bool:
        """Return whether the logits are this row `[vocab]`: bit for bit, or within the rounding of such a run."""
        same = same_bits(self.logits, row)
        return same if self.work is Work.SAME else same or equal(row, self.logits, self.work)

    def first_difference(self, other: ObservedRun) -> tuple[int, frozenset[int]] | None:
        """Return the first stage at which two runs differ and the tokens that differ there, or None."""
        for stage, (one, two) in enumerate(zip(self.stages, other.stages, strict=False)):
            if one != two:
                return stage, frozenset(i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b)
        return None

    def by_call(self) -> dict[tuple[str, int], ModuleCall]:
        """Return the calls by module and by how often it had been called before."""
        found: dict[tuple[str, int], ModuleCall] = {}
        seen: dict[str, int] = {}
        for call in self.calls:
            count = seen[call.module] = seen.get(call.module, 0) + 1
            found[call.module, count] = call
        return found

    def first_call_unlike(self, other: ObservedRun) -> str | None:
        """Return the first module whose output differs from that of the other run in any bit of its size."""
        calls = other.by_call()
        return next((each.module for key, each in self.by_call().items() if each != calls.get(key, each)), None)


@dataclass
class Watch:
    """Every prompt the model was run on, in order. `blind` says why some run could not be read."""

    seen: list[ObservedRun] = field(default_factory=list)
    blind: str | None = None


def bare(root: Any, ids: Sequence[int], **more: Any) -> ObservedRun:
    """Run the model once, observed only. Raises UsageError where it returns no logits."""
    with watched(root, calls=True) as watch:
        root(mx.array([list(ids)]), **more)
    if not watch.seen:
        raise UsageError("the model did not return logits of shape [1, tokens, vocab]")
    return watch.seen[-1]


@contextmanager
def watched(module: Any, calls: bool = False) -> Iterator[Watch]:
    """Note every forward pass of a model while the block runs; then each module gets its class back.

    A module that the engine left a class of its own on keeps that class: a comparison of the model with what it was
    must see it. With `calls` every module notes what it returns, and all of them get their classes back. Ctrl-C is held
    back until a block is called; an engine's code belongs in `let_through` besides.
    """
    blocks = _blocks(module)
    watch, stages = Watch(), _Stages(len(blocks) + 1)
    with noted_calls(module) if calls else nullcontext(NotedCalls()) as noted:
        root = (module, _noting_run(watch, stages, noted, _Caches()))
        handlers = [*((block, _noting_input(stages)) for block in blocks), root]
        with exchanged(module, handlers, watching=True):
            yield watch


def _blocks(module: Any) -> list[Any]:
    try:
        return blocks_of(module)
    except UsageError:
        return []  # such a model cannot be patched; its runs and calls can be noted all the same


@dataclass
class NotedCalls:
    """The calls of the pass under way: names, dtypes, and sizes that nobody has computed yet."""

    names: list[tuple[str, str]] = field(default_factory=list)
    sizes: list[mx.array] = field(default_factory=list)
    """`[2]` for each call: the sum of the magnitudes, and that of the last token's."""

    def note(self, name: str, out: Any) -> None:
        array = next((value for _, value in tree_flatten(out) if isinstance(value, mx.array)), None)
        if array is None or not mx.issubdtype(array.dtype, mx.floating):
            return
        wide = mx.abs(array.astype(mx.float32))
        # Only [1, tokens, width] has its tokens where one knows them: experts, for one, sort theirs.
        last = wide[:, -1] if wide.ndim == 3 and len(wide) == 1 else mx.zeros(())
        self.names.append((name, dtype_name(array)))
        self.sizes.append(mx.stack([mx.sum(wide), mx.sum(last)]))

    def clear(self) -> None:
        self.names.clear()
        self.sizes.clear()

    def read(self, sizes: Sequence[mx.array] | None = None) -> tuple[ModuleCall, ...]:
        """Return the calls. `sizes` are theirs, where a compiled function has computed them."""
        pairs = zip(self.names, self.sizes if sizes is None else sizes, strict=True)
        found = (_call(name, dtype, both) for (name, dtype), both in pairs)
        return tuple(call for call in found if call)


def _call(name: str, dtype: str, sizes: mx.array) -> ModuleCall | None:
    """Return a call, or None for a module that was compiled with its surroundings and returned no value of its own."""
    try:
        return ModuleCall(name, dtype, *np.array(sizes).tolist())
    except (ValueError, RuntimeError):
        return None


@contextmanager
def noted_calls(root: Any) -> Iterator[NotedCalls]:
    """Note what every module below a root returns while the block runs; then all get their classes back, and the root
    as well, whatever an engine left on them."""
    noted = NotedCalls()
    handlers = [
        (module, _as_it_is if module is root else _noting_output(name, noted)) for name, module in root.named_modules()
    ]
    with exchanged(root, handlers):
        yield noted


def _as_it_is(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return call(*args, **kwargs)


class _Stages:
    """The digests of the run under way, one list a row of the batch."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.rows: list[list[Digests]] = []

    def start(self, batch: int) -> None:
        self.rows = [[] for _ in range(batch)]

    def note(self, value: Any) -> None:
        if isinstance(value, mx.array) and value.ndim >= 3 and value.shape[0] == len(self.rows):
            for row, digests in zip(self.rows, digests_of(value), strict=True):
                row.append(digests)

    def of(self, row: int) -> tuple[Digests, ...]:
        """Return one row's stages, or none where some block was not seen once: a stage would be another layer."""
        return tuple(self.rows[row]) if len(self.rows[row]) == self.count else ()


def digests_of(value: mx.array) -> list[Digests]:
    """Return one digest a token for each row of `[batch, tokens, ...]`."""
    words = np.array(mx.contiguous(value).view(mx.uint8))
    return [tuple(hashlib.blake2b(token.tobytes(), digest_size=8).digest() for token in row) for row in words]


def _noting_input(stages: _Stages) -> Handler:
    def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # Under `mx.compile` and `mx.grad` nothing has a value yet; the run is then read from its logits alone.
        with _unread():
            stages.note(next((a for a in (*args, *kwargs.values()) if isinstance(a, mx.array) and a.ndim >= 3), None))
        return call(*args, **kwargs)

    return handler


def _noting_output(name: str, noted: NotedCalls) -> Handler:
    def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = call(*args, **kwargs)
        noted.note(name, out)
        return out

    return handler


class _Caches:
    """What was read through caches: an engine may read the beginning of its prompts once, and go on from copies.

    A cache carries the ids that it holds, so that a copy carries them too. One that carries none, or too few, holds
    what was read if only one thing was.
    """

    _MARK = "_ids_that_the_harness_saw_read"

    def __init__(self) -> None:
        self.read: dict[tuple[int, ...], None] = {}

    def before(self, cache: Sequence[Any], batch: int) -> list[tuple[int, ...]]:
        """Return what each row of a batch has read before this call."""
        marked = getattr(cache[0], self._MARK, None)
        held = _tokens_in(cache)
        count = held if held is not None else len(marked[0]) if marked else 0
        if marked and len(marked[0]) >= count:
            rows = [ids[:count] for ids in marked]
        else:
            begun = {ids[:count] for ids in self.read if len(ids) >= count}
            rows = [begun.pop() if len(begun) == 1 else (UNKNOWN,) * count]
        return rows if len(rows) == batch else [rows[0] if len(set(rows)) == 1 else (UNKNOWN,) * count] * batch

    def after(self, cache: Sequence[Any], rows: Sequence[tuple[int, ...]]) -> None:
        self.read |= dict.fromkeys(rows)
        with suppress(AttributeError, TypeError):
            setattr(cache[0], self._MARK, tuple(rows))


def _tokens_in(cache: Sequence[Any]) -> int | None:
    """Return how many tokens a cache holds; None where none of its entries counts them."""
    counts = [entry.offset for entry in cache if isinstance(getattr(entry, "offset", None), int)]
    return max(counts, default=None)


def _cache(values: Sequence[Any]) -> Sequence[Any] | None:
    """Return the cache among the arguments of a call: an entry for each layer, as mlx-lm makes them."""
    found = (each for each in values if isinstance(each, list | tuple) and each and hasattr(type(each[0]), "state"))
    return next(found, None)


def _noting_run(watch: Watch, stages: _Stages, noted: NotedCalls, caches: _Caches) -> Handler:
    def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ids = _ids((*args, *kwargs.values()))
        cache = _cache((*args, *kwargs.values()))
        before = caches.before(cache, len(ids)) if cache and ids else [()] * len(ids)
        stages.start(len(ids))
        noted.clear()
        out = call(*args, **kwargs)
        if cache and ids:
            caches.after(cache, [a + b for a, b in zip(before, ids, strict=True)])
        try:
            watch.seen += _seen(ids, out, stages, noted, before, cache is not None)
        except (ValueError, RuntimeError, TypeError) as error:
            watch.blind = str(error)
        return out

    return handler


@contextmanager
def _unread() -> Iterator[None]:
    try:
        yield
    except (ValueError, RuntimeError):
        return


def _ids(values: Sequence[Any]) -> list[tuple[int, ...]]:
    found = next((a for a in values if isinstance(a, mx.array) and mx.issubdtype(a.dtype, mx.integer)), None)
    try:
        return [] if found is None or found.ndim != 2 else [tuple(row) for row in np.array(found).tolist()]
    except (ValueError, RuntimeError):
        return []


def _seen(
    ids: Sequence[tuple[int, ...]], out: Any, stages: _Stages, noted: NotedCalls, before: Sequence[tuple[int, ...]],
    cached: bool,
) -> Iterator[ObservedRun]:  # fmt: skip
    logits = activation_of(out)
    if not isinstance(logits, mx.array) or logits.ndim != 3 or logits.shape[0] != len(ids):
        raise TypeError(
            f"a run on {number_of(len(ids), 'prompt')} returned {getattr(logits, 'shape', type(logits).__name__)}"
        )
    mx.eval(logits)
    stages.note(logits)
    calls = noted.read() if len(ids) == 1 else ()
    for number, (read, prompt) in enumerate(zip(before, ids, strict=True)):
        yield ObservedRun(read + prompt, logits[number, -1], stages.of(number), calls, len(read), len(ids), cached)
