"""What a value that no arithmetic explains depends on: an earlier forward, or the position of a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from harness.diagnosis.causes.facts import Facts
from harness.diagnosis.trail.flow import Trail, trail
from harness.metrics.host import host_values
from harness.metrics.layouts import layout_of


def dependence_of(facts: Facts, earlier: Sequence[Trail]) -> tuple[str, dict[str, Any]]:
    """Return what a value depends on, in words and as evidence; nothing where further runs show nothing."""
    if facts.trail.inner():
        return "", {}
    return _on_earlier_forwards(facts, earlier) or _on_the_position(facts) or ("", {})


def _on_earlier_forwards(facts: Facts, earlier: Sequence[Trail]) -> tuple[str, dict[str, Any]] | None:
    """A prompt that was finite and is not when it is repeated, or was not and is."""
    for before in (each for each in earlier if each.suspect is None):
        again = trail(facts.root, before.ids, before.run)
        if again.suspect and again.suspect.module == facts.suspect.module:
            text = f"the first forward of the {before.run} prompt is finite, and the same prompt now is not: "
            return f"{text}the module keeps something from one forward to the next", {"depends_on": "earlier forwards"}
    if facts.origin is None and facts.replay.returned and not any(_bad_tokens(each) for each in facts.replay.returned):
        if trail(facts.root, facts.trail.ids, facts.trail.run).suspect is None:
            text = "the same prompt, repeated, is finite there: the module is not a function of its input"
            return text, {"depends_on": "earlier forwards"}
        return "it is finite there when nothing is compiled: what the model compiles is wrong, or its compiler is", {}
    return None


def _on_the_position(facts: Facts) -> tuple[str, dict[str, Any]] | None:
    """Tell a position from the token at it by a prompt of one and the same token."""
    ids, first = facts.trail.ids, (facts.suspect.frame.first or (None,))[0]
    if not first or len(ids) <= first:
        return None
    same = trail(facts.root, (ids[0],) * len(ids), facts.trail.run).suspect
    if same is None or same.module != facts.suspect.module or (same.frame.first or (None,))[0] != first:
        return None
    bad = next((tokens for each in facts.replay.returned if (tokens := _bad_tokens(each))), [])
    text = f"whatever the tokens are, as a prompt of token {ids[0]} alone shows"
    if len(bad) > 1 and bad == list(range(first, len(ids))):
        return f"it appears from token {first} on {text}", {"depends_on": "position", "position": first}
    return f"it appears at token {first} {text}", {"position": first}


def _bad_tokens(array: mx.array) -> list[int]:
    """Return the tokens of `[1, tokens, width]` with something not finite."""
    if layout_of(array) is None or array.ndim < 2:
        return []
    bad = ~np.isfinite(host_values(array))
    return [int(i) for i in np.flatnonzero(np.moveaxis(bad, -2, 0).reshape(array.shape[-2], -1).any(axis=1))]
