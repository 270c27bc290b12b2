"""The grids by name, which is that of the command."""

from __future__ import annotations

from collections.abc import Mapping

from harness.laws.architectures.equality_page import EQUALITY
from harness.laws.architectures.kind import GridKind
from harness.laws.architectures.matrix import MATRIX
from harness.laws.architectures.reference_page import REFERENCE_TABLE

GRIDS: Mapping[str, GridKind] = {"architectures": MATRIX, "equality": EQUALITY, "reference": REFERENCE_TABLE}
