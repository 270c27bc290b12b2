"""What is known of a value that is not finite: its place, the operation it goes back to, and what float64 says.

That it is this operation is tried out: with its result replaced the run must be finite. Where it is not, the value was
thrown away on the way to the output, or a second fault stands behind it. The value was thrown away if the second is
there without it, and the run is finite without the second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx

from harness.diagnosis.causes.arithmetic import BROUGHT_IN, UNEXPLAINED, Verdict, verdict_of
from harness.diagnosis.causes.origin import FaultOrigin, origin_of
from harness.diagnosis.trail.flow import Suspect, Trail, trail
from harness.diagnosis.trail.operations import NotedCall, Operation, Replay, replay, uncompiled, watching
from harness.intercept import Tap
from harness.vocabulary.errors import described

MOST_DISCARDED = 3
"""Values that are thrown away before the one that reaches the output: each costs a replay and two runs."""


@dataclass(frozen=True)
class Facts:
    """A suspect of a trail, the operation behind it, and the verdict on that."""

    root: Any
    trail: Trail
    suspect: Suspect
    replay: Replay = field(default_factory=Replay)
    origin: FaultOrigin | None = None
    verdict: Verdict = field(default=Verdict(UNEXPLAINED, ""))
    note: str = ""
    """Why there is no origin."""

    @property
    def guilty(self) -> Operation | None:
        return self.origin.operation if self.origin else None

    @property
    def is_replayed(self) -> bool:
        """Whether the operation was called again, and float64 says why it is not finite."""
        return self.verdict.kind not in (UNEXPLAINED, BROUGHT_IN)


def facts_of(root: Any, run: Trail, known: bool) -> Facts:
    """Return the facts about what reaches the output of a run; `known` where an earlier run showed that it does."""
    first = _look(root, run)
    if known or run.counts.finite:
        return first
    facts = first
    for _ in range(MOST_DISCARDED):
        if facts.origin is None:
            return first
        without = _run_without(facts)
        if without.suspect is None or without.counts.finite:
            return facts
        behind = _look(root, without)
        if not _stands_alone(behind, run) or not _run_without(behind, run).counts.finite:
            return facts
        facts = behind
    return first


def _stands_alone(behind: Facts, run: Trail) -> bool:
    """Return whether the operation makes its value in the run as it was, and not of one that reaches it from before."""
    origin = _look(behind.root, replace(run, suspect=behind.suspect)).origin
    if behind.origin is None or origin is None:
        return False
    found, wanted = origin.operation, behind.origin.operation
    return (found.name, found.source, origin.brought_in) == (wanted.name, wanted.source, behind.origin.brought_in)


def _look(root: Any, run: Trail) -> Facts:
    suspect = run.suspect
    assert suspect is not None
    facts = Facts(root, run, suspect)
    try:
        seen = replay(root, run.ids, suspect.module, suspect.call, run.inner(), suspect.method)
        origin = origin_of(seen)
    except Exception as error:  # noqa: BLE001  the place is proven already; a look inside must not cost it
        return replace(facts, note=f"the operation inside could not be replayed ({described(error)})")
    if origin is None:
        return replace(facts, replay=seen, note="a repeated run shows no operation that makes it")
    return replace(facts, replay=seen, origin=origin, verdict=verdict_of(origin))


def _run_without(facts: Facts, run: Trail | None = None) -> Trail:
    """Repeat a run in which the operation behind the facts returns 1 where it was not finite."""
    run = run or facts.trail
    return trail(facts.root, run.ids, run.run, lambda: [*run.inner(), _healing(facts)])


def _healing(facts: Facts) -> Tap:
    assert facts.origin is not None
    kept = facts.origin.operation.kept
    calls = [0]

    def handler(inner: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        calls[0] += 1
        if calls[0] != facts.suspect.call:
            return inner(*args, **kwargs)
        times = [0]

        def note(operation: NotedCall, out: Any) -> mx.array | None:
            times[0] += (operation.name, operation.source) == (kept.call.name, kept.call.source)
            if times[0] != kept.time or not isinstance(out, mx.array):
                return None
            times[0] += 1
            return mx.where(out - out == 0, out, mx.array(1, out.dtype))  # inf - inf is none either

        with watching(note), uncompiled():
            return inner(*args, **kwargs)

    return Tap(dict(facts.root.named_modules())[facts.suspect.module], handler, method=facts.suspect.method)
