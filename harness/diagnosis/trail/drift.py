"""Dtypes that drift: finite values in another dtype than the same module returns in other layers.

A float32 constant or a forgotten cast widens what it meets, and a residual stream that is widened stays so: from that
layer on the model runs in another dtype than its weights say, and what would overflow does not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from harness.diagnosis.outcome.nouns import PROVEN, Frame, Place, PlacedFinding
from harness.diagnosis.trail.flow import Trail
from harness.metrics.layouts import LAYOUTS

_LAYER = re.compile(r"(?<=\.)\d+(?=\.|$)")


def drifting(trail: Trail, asked: str | None) -> Iterator[PlacedFinding]:
    """Yield the first module that returns another dtype than it is given where its siblings do not.

    Siblings have the same name in other layers, and the same class. `asked` is the dtype that the run was cast to.
    """
    frame = next(iter(_odd(trail)), None)
    if frame is None:
        yield from _embedded(trail, asked)
        return
    name = frame.module
    after = _residual_after(trail, frame)
    stays = f"; the residual stream is {frame.dtype} from layer {after} on" if after is not None else ""
    others = "" if asked is None else f", and {asked} was asked for"
    yield PlacedFinding.of(
        "DIA216" if asked is None else "DIA217",
        f"{name} of layer {frame.layer} returns {frame.dtype} out of {frame.given}, where the same module of other "
        f"layers keeps its dtype{stays}{others}",
        Place.of_module("forward", trail.run, name),
        PROVEN,
        dtype=frame.dtype,
        given=frame.given,
        residual_from=after,
    )


def _embedded(trail: Trail, asked: str | None) -> Iterator[PlacedFinding]:
    """Yield the embedding that looks its rows up in the dtype that was asked for and returns them in another."""
    for frame in trail.frames:
        if asked and "mbedding" in frame.kind and not frame.given and frame.dtype in LAYOUTS and frame.dtype != asked:
            said = f"{frame.module} returns {frame.dtype}, and {asked} was asked for"
            place = Place.of_module("forward", trail.run, frame.module)
            yield PlacedFinding.of("DIA217", said, place, PROVEN, dtype=frame.dtype, given=asked)
            return


def _odd(trail: Trail) -> Iterator[Frame]:
    """Yield the modules that change the dtype where not all of their siblings do, in the order of execution."""
    roles: dict[tuple[str, str, str], list[Frame]] = defaultdict(list)
    for frame in trail.frames:
        if frame.layer is not None and frame.given in LAYOUTS and frame.dtype in LAYOUTS:
            roles[_role(frame)].append(frame)
    for frame in trail.frames:
        siblings = roles.get(_role(frame), [])
        if frame.dtype != frame.given and any(each.dtype == each.given for each in siblings):
            yield frame


def _role(frame: Frame) -> tuple[str, str, str]:
    return _LAYER.sub("*", frame.module), frame.kind, frame.method


def _residual_after(trail: Trail, odd: Frame) -> int | None:
    """Return the layer from which on every block returns the dtype, if the ones before do not."""
    blocks = [frame for frame in trail.frames if frame.layer is not None and frame.module.endswith(f".{frame.layer}")]
    later = [frame for frame in blocks if frame.index >= odd.index]
    before = [frame for frame in blocks if frame.index < odd.index]
    if not later or any(frame.dtype != odd.dtype for frame in later) or any(f.dtype == odd.dtype for f in before):
        return None
    return later[0].layer
