"""Watching somebody else's forward passes: what went in, what came out, and where a patch struck.

An engine that returns only a dictionary still runs the model. A tap on the model's root sees every run, and taps on the
blocks note what each of them was given, one digest a token. The first block whose input differs from the bare run's
says in which layer a patch was made, and at which tokens; nothing has to be believed of the engine's order of work.
Where `calls` are asked for, every module notes the dtype and the size of what it returns as well: the first module that
differs says where the engine's interception changed the model.

The taps stay out of the way of Ctrl-C and of the engine's own interception: they neither hold a signal back nor are
they refused as taps of ours would be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from harness.models.architectures import blocks_of
from harness.vocabulary.errors import UsageError

Digests = tuple[bytes, ...]
"""One digest for each token."""


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
    """

    ids: tuple[int, ...]
    logits: mx.array
    stages: tuple[Digests, ...]
    calls: tuple[ModuleCall, ...] = ()

    def first_difference(self, other: ObservedRun) -> tuple[int, frozenset[int]] | None:
        """Return the first stage at which two runs differ and the tokens that differ there, or None."""
        for stage, (one, two) in enumerate(zip(self.stages, other.stages, strict=False)):
            if one != two:
                return stage, frozenset(i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b)
        return None


@dataclass
class Watch:
    """Every prompt the model was run on, in order. `blind` says why some run could not be read."""

    seen: list[ObservedRun] = field(default_factory=list)
    blind: str | None = None


@contextmanager
def watched(module: Any, calls: bool = False) -> Iterator[Watch]:
    """Note every forward pass of a model while the block runs; then each module of ours gets its class back.

    One that the engine left a class of its own on keeps it: whoever compares the model with what it was must see that.
    With `calls` every module notes what it returns, and all of them get their classes back.
    """
    blocks = _blocks(module)
    watch, stages = Watch(), _Stages(len(blocks) + 1)
    changed: list[tuple[Any, type, type]] = []
    with noted_calls(module) if calls else nullcontext(NotedCalls()) as noted:
        try:
            for each in (*blocks, module):
                original = type(each)
                root = each is module
                noting = _noting_run(original, watch, stages, noted) if root else _noting_input(original, stages)
                changed.append((each, original, noting))
                each.__class__ = noting
            yield watch
        finally:
            for each, original, noting in reversed(changed):
                if type(each) is noting:
                    each.__class__ = original


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
        self.names.append((name, str(array.dtype).removeprefix("mlx.core.")))
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
    originals = [(name, module, type(module)) for name, module in root.named_modules()]
    try:
        for name, module, _ in originals:
            if module is not root:
                module.__class__ = _noting_output(type(module), name, noted)
        yield noted
    finally:
        for _, module, original in reversed(originals):
            module.__class__ = original


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


def _noting_input(original: type, stages: _Stages) -> type:
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807  the name Python looks up
        # Under `mx.compile` and `mx.grad` nothing has a value yet; the run is then read from its logits alone.
        with _unread():
            stages.note(next((a for a in (*args, *kwargs.values()) if isinstance(a, mx.array) and a.ndim >= 3), None))
        return original.__call__(self, *args, **kwargs)

    return type(original.__name__, (original,), {"__call__": __call__})


def _noting_output(original: type, name: str, noted: NotedCalls) -> type:
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807  the name Python looks up
        out = original.__call__(self, *args, **kwargs)
        noted.note(name, out)
        return out

    return type(original.__name__, (original,), {"__call__": __call__})


def _noting_run(original: type, watch: Watch, stages: _Stages, noted: NotedCalls) -> type:
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807  the name Python looks up
        ids = _ids((*args, *kwargs.values()))
        stages.start(len(ids))
        noted.clear()
        out = original.__call__(self, *args, **kwargs)
        try:
            watch.seen += _seen(ids, out, stages, noted)
        except (ValueError, RuntimeError, TypeError) as error:
            watch.blind = str(error)
        return out

    return type(original.__name__, (original,), {"__call__": __call__})


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


def _seen(ids: Sequence[tuple[int, ...]], out: Any, stages: _Stages, noted: NotedCalls) -> Iterator[ObservedRun]:
    logits = out[0] if isinstance(out, tuple) else out
    if not isinstance(logits, mx.array) or logits.ndim != 3 or logits.shape[0] != len(ids):
        raise TypeError(f"a run on {len(ids)} prompts returned {getattr(logits, 'shape', type(logits).__name__)}")
    mx.eval(logits)
    stages.note(logits)
    calls = noted.read() if len(ids) == 1 else ()
    for number, prompt in enumerate(ids):
        yield ObservedRun(prompt, logits[number, -1], stages.of(number), calls)
