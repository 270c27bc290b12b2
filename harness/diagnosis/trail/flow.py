"""The trail: the events of a run as frames in execution order, with the flow of what is not finite.

A non-finite value APPEARS in a module whose inputs are finite, PROPAGATES through one whose inputs are not, and
DISAPPEARS in one whose output is finite all the same. Between two modules there is code as well: where the next module
is handed a non-finite value and all before it returned finite ones, it appeared in the module that holds both.

An -inf is legal where a model means it: in a mask, in columns of ids that are ruled out, and as a score on its way
into a softmax. Anywhere else in what a module returns it is an overflow like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from harness.diagnosis.outcome.nouns import APPEARS, DISAPPEARS, PROPAGATES, Frame, layer_of
from harness.diagnosis.trail.events import Event, ModuleWatcher, Value, watch
from harness.diagnosis.trail.masks import EmptyRows, Masks
from harness.diagnosis.trail.statistics import element
from harness.intercept import Tap
from harness.metrics import suppressed
from harness.metrics.host import host_values
from harness.metrics.layouts import layout_named
from harness.vocabulary import RowSummary

Inner = Callable[[], list[Tap]]
"""Makes the taps that belong to a run, such as its patch: fresh ones for each repetition."""


@dataclass(frozen=True)
class Suspect:
    """A module in which a non-finite value appears: which call of which method, and which part of it."""

    module: str
    method: str
    call: int
    kind: str
    is_leaf: bool
    between: tuple[str, str] | None
    counts: RowSummary
    frame: Frame
    reads_ids: bool


@dataclass(frozen=True)
class Trail:
    """One watched run: its frames, the first suspect, its logits `[tokens, vocab]` on the device."""

    run: str
    ids: tuple[int, ...]
    frames: tuple[Frame, ...]
    suspect: Suspect | None
    logits: mx.array
    counts: RowSummary
    suppressed: tuple[int, ...]
    empty_rows: EmptyRows | None
    unseen: tuple[str, ...] = ()
    masks: Masks = field(default_factory=Masks)
    inner: Inner = list

    @property
    def finite(self) -> bool:
        """Whether the last token's logits are finite but for ids that the model rules out."""
        row = host_values(self.logits[-1])
        return bool(np.isfinite(np.delete(row, self.suppressed)).all())

    @property
    def hidden(self) -> bool:
        """Whether something was not finite on the way and the logits are."""
        return self.suspect is not None and self.counts.finite


def trail(root: Any, ids: Sequence[int], run: str, inner: Inner = list) -> Trail:
    """Run the model once, under the taps that `inner` makes, and return its trail."""
    watcher, logits = watch(root, ids, inner())
    rows = logits[0] if logits.ndim == 3 else logits
    suppressed = ruled_out(rows)
    reading = _Reading(run, watcher, bool(suppressed), len(ids))
    frames, suspect = reading.read()
    last = next(value.counts for event in reversed(watcher.events) for value in event.seen if value.counts)
    return Trail(
        run=run,
        ids=tuple(ids),
        frames=tuple(frames),
        suspect=suspect,
        logits=rows,
        counts=last,
        suppressed=suppressed,
        empty_rows=watcher.masks.empty(),
        unseen=tuple(sorted(watcher.unseen)),
        masks=watcher.masks,
        inner=inner,
    )


def ruled_out(rows: mx.array) -> tuple[int, ...]:
    """Return the ids that are -inf at every token of `[tokens, vocab]`, if nothing else is not finite."""
    last = host_values(rows[-1])
    found = suppressed(last, last)
    if not found or len(found) == last.size:
        return ()
    return found if bool(mx.all(rows[:, mx.array(found)] == -mx.inf).item()) else ()


@dataclass
class _Open:
    event: Event
    tainted: bool
    before: int
    """How many suspects there were when it was called."""
    children: list[str] = field(default_factory=list)


class _Reading:
    """Reads events in order, with the stack of the modules that are open."""

    def __init__(self, run: str, watcher: ModuleWatcher, suppresses: bool, tokens: int):
        self.run, self.events, self.tokens = run, watcher.events, tokens
        self.alarm = any(self._hard(value) for event in self.events for value in event.seen)
        self.suppresses = suppresses
        self.frames: list[Frame] = []
        self.live: list[Suspect] = []
        self.discarded: list[Suspect] = []
        self.stack: list[_Open] = []

    def read(self) -> tuple[list[Frame], Suspect | None]:
        """Return the frames, and the first suspect whose value is not gone when a module that holds it returns."""
        for event in self.events:
            self._enter(event) if event.enter else self._leave(event)
        return self.frames, next(iter([*self.live, *self.discarded]), None)

    def _enter(self, event: Event) -> None:
        bad = self._bad(event)
        if bad and self.stack and not self.stack[-1].tainted:
            self._between(self.stack[-1], event.module, bad)
        self.stack.append(_Open(event, bad is not None, len(self.live)))

    def _leave(self, event: Event) -> None:
        here, bad = self.stack.pop(), self._bad(event)
        parent = self.stack[-1] if self.stack else None
        flow = ""
        if bad:
            flow = PROPAGATES if here.tainted else APPEARS
        elif here.tainted:
            flow = DISAPPEARS
        between = (here.children[-1], "the end") if flow == APPEARS and here.children else None
        frame = self._frame(event, here.event.seen, event.seen[0] if event.seen else None, bad, flow, between)
        self.frames.append(frame)
        if flow == APPEARS and bad:
            self._suspect(here, between, bad, frame)
        if not bad and event.seen:
            self.discarded += self.live[here.before :]
            del self.live[here.before :]
        if parent:
            parent.tainted |= bad is not None
            parent.children.append(event.module)

    def _between(self, parent: _Open, follower: str, bad: Value) -> None:
        between = (parent.children[-1] if parent.children else "the start", follower)
        frame = self._frame(parent.event, parent.event.seen, bad, bad, APPEARS, between)
        self.frames.append(frame)
        parent.tainted = True
        self._suspect(parent, between, bad, frame)

    def _suspect(self, here: _Open, between: tuple[str, str] | None, bad: Value, frame: Frame) -> None:
        if bad.counts:
            at = here.event
            reads_ids = any(value.first_argument and "int" in value.dtype for value in at.seen)
            leaf = not here.children and between is None
            self.live.append(
                Suspect(at.module, at.method, at.call, at.kind, leaf, between, bad.counts, frame, reads_ids)
            )

    def _frame(
        self,
        event: Event,
        given: Sequence[Value],
        value: Value | None,
        bad: Value | None,
        flow: str,
        between: tuple[str, str] | None,
    ) -> Frame:
        value = bad or value
        counts = value.counts if value and value.counts else RowSummary()
        layout = layout_named(value.dtype) if value else None
        return Frame(
            index=len(self.frames),
            run=self.run,
            module=event.module,
            layer=layer_of(event.module),
            kind=event.kind,
            method=event.method,
            call=event.call,
            given=next((each.dtype for each in given if layout_named(each.dtype)), ""),
            dtype=value.dtype if value else "",
            shape=value.shape if value else (),
            absmax=counts.absmax,
            nan=counts.nan,
            pos_inf=counts.pos_inf,
            neg_inf=counts.neg_inf,
            first=element(counts.first, value.shape, self.tokens) if value and not counts.finite else None,
            headroom=layout.limit / counts.absmax if layout and counts.absmax else None,
            flow=flow,
            between=" and ".join(between) if between else None,
        )

    def _bad(self, event: Event) -> Value | None:
        """Return the first value of an event that is not finite and does not mean to be."""
        for value in event.seen:
            if self._hard(value):
                return value
            # An -inf beside the activation is a mask, and one in it may be a score; both harm nobody by themselves.
            harmless = (event.enter and not (self.alarm and value.first_argument)) or self._is_row_of_logits(event)
            if self._soft(value) and not harmless:
                return value
        return None

    def _is_row_of_logits(self, event: Event) -> bool:
        return self.suppresses and event.seen[0].shape[-1:] == self.events[-1].seen[0].shape[-1:]

    @staticmethod
    def _hard(value: Value) -> bool:
        return value.counts is not None and bool(value.counts.nan or value.counts.pos_inf)

    @staticmethod
    def _soft(value: Value) -> bool:
        return value.counts is not None and value.counts.only_neg_inf and not value.meant
