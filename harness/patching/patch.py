"""One patch: the activation at a hook point, put in at some positions. A cell of the grid, resolved on a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.intercept import HookPoint
from harness.vocabulary import Positions, Site, site_position


class Patch(NamedTuple):
    """A hook point and the positions its activation is put in at."""

    point: HookPoint
    positions: Positions

    @property
    def site(self) -> Site:
        """The noun for this cell."""
        return Site(self.point.component, self.point.layer, site_position(self.positions), self.point.head)

    def __str__(self) -> str:
        return str(self.site)


def patches_of(points: Sequence[HookPoint], positions: Positions, tokens: int) -> tuple[Patch, ...]:
    """Return the cells of a sweep; `each` makes one of every position, the layer x position grid."""
    if positions == "each":
        return tuple(Patch(point, (token,)) for point in points for token in range(tokens))
    return tuple(Patch(point, positions) for point in points)
