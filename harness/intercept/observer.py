"""Watching somebody else's forward passes: what went in, what came out, and where a patch struck.

An engine that returns only a dictionary still runs the model. A tap on the model's root sees every run, and taps on the
blocks note what each of them was given, one digest a token. The first block whose input differs from the bare run's
says in which layer a patch was made, and at which tokens; nothing has to be believed of the engine's order of work.

The watch stays out of the way of the engine's own interception: a watched model can be tapped, by the engine too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from harness.intercept.outputs import activation_of
from harness.intercept.swap import Handler, exchanged
from harness.models.architectures import blocks_of

Digests = tuple[bytes, ...]
"""One digest for each token."""


@dataclass(frozen=True)
class ObservedRun:
    """One prompt of one forward pass.

    `logits` is the last token's row `[vocab]` in the model's dtype. `stages` holds the digests of what every block was
    given, then of the logits at all tokens; it is empty where they could not be read.
    """

    ids: tuple[int, ...]
    logits: mx.array
    stages: tuple[Digests, ...]

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
def watched(module: Any) -> Iterator[Watch]:
    """Note every forward pass of a model while the block runs; then each module gets its class back.

    A module that the engine left a class of its own on keeps that class: a comparison of the model with what it was
    must see it. Ctrl-C is held back until a block is called; an engine's code belongs in `let_through` besides.
    """
    blocks = blocks_of(module)
    watch, stages = Watch(), _Stages(len(blocks) + 1)
    handlers = [*((block, _noting_input(stages)) for block in blocks), (module, _noting_run(watch, stages))]
    with exchanged(module, handlers, watching=True):
        yield watch


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


def _noting_run(watch: Watch, stages: _Stages) -> Handler:
    def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ids = _ids((*args, *kwargs.values()))
        stages.start(len(ids))
        out = call(*args, **kwargs)
        try:
            watch.seen += _seen(ids, out, stages)
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


def _seen(ids: Sequence[tuple[int, ...]], out: Any, stages: _Stages) -> Iterator[ObservedRun]:
    logits = activation_of(out)
    if not isinstance(logits, mx.array) or logits.ndim != 3 or logits.shape[0] != len(ids):
        raise TypeError(f"a run on {len(ids)} prompts returned {getattr(logits, 'shape', type(logits).__name__)}")
    mx.eval(logits)
    stages.note(logits)
    for number, prompt in enumerate(ids):
        yield ObservedRun(prompt, logits[number, -1], stages.of(number))
