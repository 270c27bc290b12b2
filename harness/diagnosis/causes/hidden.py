"""A value that is not finite and does not reach the logits: they are numbers, and wrong ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.diagnosis.causes.evidence import at
from harness.diagnosis.causes.origin import hiders
from harness.diagnosis.outcome.nouns import DISAPPEARS, PROVEN, Frame, Place, PlacedFinding
from harness.diagnosis.trail.flow import Trail
from harness.diagnosis.trail.operations import Operation, replay
from harness.vocabulary.errors import described


def hidden(root: Any, trail: Trail) -> Iterator[PlacedFinding]:
    """Yield where a value disappears before the logits, and which operations make a number of it. Repeats the run."""
    frame = _last(trail)
    if not trail.hidden or trail.suspect is None or frame is None:
        return
    try:
        found = hiders(replay(root, trail.ids, frame.module, frame.call, trail.inner(), frame.method))
    except Exception as error:  # noqa: BLE001  the place is known already; a look inside must not cost it
        found, note = [], f" (the operation could not be replayed: {described(error)})"
    else:
        note = ""
    named = list(dict.fromkeys(map(_named, found)))[-3:]
    by = f", where {' and '.join(named)} make{'s' if len(named) == 1 else ''} a number of it" if named else note
    where = frame.module or "the model"
    yield PlacedFinding.of(
        "DIA210",
        f"what is not finite in {at(trail.suspect)} disappears in {where}{by}: the logits "
        f"of the {trail.run} run are finite all the same",
        Place.of_module("forward", trail.run, where),
        PROVEN,
        operations=list(dict.fromkeys(each.name for each in found)),
    )


def _last(trail: Trail) -> Frame | None:
    """Return the module in which the last of the values that are not finite disappears."""
    bad = [frame.index for frame in trail.frames if frame.flow and frame.flow != DISAPPEARS]
    return next((frame for frame in trail.frames[bad[-1] if bad else 0 :] if frame.flow == DISAPPEARS), None)


def _named(operation: Operation) -> str:
    return f"`{operation.name}` in `{operation.text}` ({operation.source})"
