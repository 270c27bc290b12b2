"""What patches do to the logits, to first order: attribution patching (Nanda 2023; Kramár et al. 2024, AtP).

A patch changes the activation at a hook point by source - target. Times the gradient of a metric there, that is the
change of the metric, as long as the model is linear so far. One backward pass serves every cell of a sweep. With
`steps`, the gradient is the mean over runs whose first residual lies between the two prompts' (integrated gradients:
Sundararajan et al. 2017, over the inputs as in EAP-IG, Hanna et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from harness import intercept
from harness.intercept import HookPoint, resolve_positions
from harness.models.architectures import blocks_of
from harness.models.loaded import LoadedModel
from harness.patching.patch import Patch
from harness.vocabulary.errors import TapError, described
from harness.vocabulary.raised import refuse_device_failure

Row = npt.NDArray[np.float64]
PerToken = npt.NDArray[np.float64]
Steep = Callable[[mx.array], Row | None]
Edit = tuple[HookPoint, Callable[[mx.array], mx.array]]
_Place = tuple[int, bool, int]


@dataclass(frozen=True)
class Slopes:
    """Both unpatched runs of a sweep and how far apart their activations are at every hook.

    `source` and `target` are logits `[vocab]`. Slices of one activation share a hook: `hooks` has one point of each.
    """

    model: LoadedModel
    ids: tuple[int, ...]
    source: mx.array
    target: mx.array
    hooks: tuple[HookPoint, ...]
    apart: tuple[mx.array, ...]
    """What a patch puts in - target at each hook, `[1, tokens, width]`."""
    at: tuple[mx.array, ...]
    """The first residuals `[1, tokens, width]` at which the gradient is taken; none: the target run's own."""

    def changes(self, steep: Steep, patches: Sequence[Patch]) -> list[float] | None:
        """Return what each patch adds to a metric; `steep` gives its gradient at logits `[vocab]`.

        None where the metric has no gradient. The backward pass runs in the model's dtype, on a gradient scaled to a
        largest value of 1, so that the small probabilities of a large vocabulary do not vanish in it. Raises TapError
        where MLX cannot go back.
        """
        total = {_place(hook): np.zeros((len(self.ids), hook.slices)) for hook in self.hooks}
        rounds: Sequence[mx.array | None] = self.at or (None,)
        for first in rounds:
            slope = steep(self.target if first is None else intercept.edited(self.model, self.ids, self._edits(first)))
            if slope is None:
                return None
            largest = float(np.abs(slope).max()) or 1.0
            for hook, part in zip(self.hooks, self._contributions(slope / largest, first), strict=True):
                total[_place(hook)] += largest / len(rounds) * part
        return [self._of(patch, total[_place(patch.point)]) for patch in patches]

    def _of(self, patch: Patch, part: PerToken) -> float:
        tokens = resolve_positions(patch.positions, len(self.ids))
        return float(part[tokens, patch.point.slot].sum())

    def _contributions(self, slope: Row, first: mx.array | None) -> Iterator[PerToken]:
        """Yield for every hook what each token and slice adds to the change of a metric, `[tokens, slices]`."""
        cotangent = mx.array(slope.astype(np.float32)).astype(self.target.dtype)
        for hook, steep, apart in zip(self.hooks, self._slopes(cotangent, first), self.apart, strict=True):
            product = steep.astype(mx.float32) * apart.astype(mx.float32)
            yield _by_slice(np.array(product[0], np.float64), hook.slices)

    def _slopes(self, cotangent: mx.array, first: mx.array | None) -> list[mx.array]:
        """Return the gradient at every hook, `[1, tokens, width]`."""

        def logits(*added: mx.array) -> list[mx.array]:
            more = [(hook, partial(mx.add, each)) for hook, each in zip(self.hooks, added, strict=True)]
            return [intercept.edited(self.model, self.ids, [*self._edits(first), *more])]

        try:
            _, slopes = mx.vjp(logits, [mx.zeros_like(apart) for apart in self.apart], [cotangent])
            mx.eval(slopes)
        except TapError:
            raise
        except Exception as error:
            refuse_device_failure(error)
            raise TapError(f"there is no gradient: {described(error)}") from error
        found: list[mx.array] = slopes
        return found

    def _edits(self, first: mx.array | None) -> list[Edit]:
        """Return the edit that puts in a first residual, where one is given."""
        return [] if first is None else [(_start(self.model)[1], lambda value: first)]


def slopes(
    model: LoadedModel, source: Sequence[int], target: Sequence[int], patches: Sequence[Patch], steps: int = 0
) -> Slopes:
    """Run both prompts `[tokens]` and return what patches change their activations by.

    With `steps`, the gradient is the mean at so many places between the two, the midpoints of equal parts. Raises
    TapError where a module runs more than once in a pass, or gives activations of other shapes on the two prompts.
    """
    points: dict[_Place, HookPoint] = {}
    for patch in patches:
        points.setdefault(_place(patch.point), patch.point)
    hooks = tuple(points.values())
    start = points.setdefault(*_start(model)) if steps else hooks[0]
    one, there = intercept.record(model, source, list(points.values()))
    other, here = intercept.record(model, target, list(points.values()))
    own = {point: _once(point, here) for point in points.values()}
    apart = {point: point.given(_once(point, there)) - own[point] for point in points.values()}
    between = tuple(own[start] + (2 * step + 1) / (2 * steps) * apart[start] for step in range(steps))
    return Slopes(model, tuple(target), one, other, hooks, tuple(apart[hook] for hook in hooks), between)


def _start(model: LoadedModel) -> tuple[_Place, HookPoint]:
    """Return where the first residual is."""
    point = HookPoint("resid_pre", 0, blocks_of(model.module)[0], is_input=True)
    return _place(point), point


def _once(point: HookPoint, recording: intercept.Recording) -> mx.array:
    if len(recording[point]) != 1:
        raise TapError(
            f"{point}: called more than once in a pass ({len(recording[point])}); a gradient is taken of one call"
        )
    return recording[point][0]


def _place(point: HookPoint) -> _Place:
    """What slices of one activation share: where it is, and into how many it is cut."""
    return id(point.module), point.is_input, point.slices


def _by_slice(product: npt.NDArray[np.float64], slices: int) -> npt.NDArray[np.float64]:
    """Return `[tokens, width]` summed within each slice, `[tokens, slices]`."""
    tokens, width = product.shape
    sums: npt.NDArray[np.float64] = product.reshape(tokens, slices, width // slices).sum(axis=2)
    return sums
