"""Comparing a new document with a stored one, within a tolerance that NaN never meets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.snapshots.document import Document


@dataclass(frozen=True)
class Difference:
    """One value that moved further than its tolerance, or appeared, vanished or changed its state."""

    where: str
    old: Any
    new: Any

    @property
    def change(self) -> str:
        """How far it moved: a recovery in points, a baseline in percent of itself; nothing for what is no number."""
        if not (isinstance(self.old, float) and isinstance(self.new, float)):
            return ""
        moved = self.new - self.old
        if not is_baseline(self.where):
            return f"{moved:+.3g} points"
        return f"{100 * moved / abs(self.old):+.3g} %" if self.old else f"{moved:+.3g}"

    def __str__(self) -> str:
        if not self.change:
            return f"{self.where}: {self.old} -> {self.new}"
        return f"{self.where}: {self.old:.7g} -> {self.new:.7g} ({self.change})"


def is_baseline(where: str) -> bool:
    """Return whether a difference's place is a baseline, which has a unit of its own; the others are recoveries."""
    return where.endswith(" baseline")


def differences(old: Document, new: Document, tolerance: Mapping[str, float] | None = None) -> list[Difference]:
    """Return every difference beyond the tolerance (`recovery_points`, `baseline_relative`).

    Without a tolerance given, the new document's own is used and must equal the stored one: loosening it is a change.
    Provenance is not compared. Rounding to the stored digits is allowed for.
    """
    found = [
        Difference(key, old.get(key), new.get(key))
        for key in ("schema", "case", "model", "engine", "tokens", *(() if tolerance else ("tolerance",)))
        if old.get(key) != new.get(key)
    ]
    limits = tolerance or new["tolerance"]
    return found + list(_curves(_by_name(old), _by_name(new), limits))


def origins(old: Document, new: Document) -> str:
    """Return what the provenance of two documents disagrees on, as `mlx 0.32.3, now 0.32.4; device ...`."""
    was, now = old.get("provenance", {}), new["provenance"]
    return "; ".join(f"{key} {was.get(key)}, now {value}" for key, value in now.items() if was.get(key) != value)


def _by_name(document: Document) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for curve in document.get("curves", ()):
        name = f"{curve['component']} {curve['metric']}"
        named[f"{name} baseline"] = curve["baseline"]
        for cell in curve["recoveries"]:
            where = f", head {cell['head']}" if "head" in cell else ""
            where += "" if cell["position"] == "all" else f", position {cell['position']}"
            place = f"{name} layer {cell['layer']}{where}"
            named[place] = cell
            if "precision" in cell:
                named[f"{place} error bar"] = {"value": cell["precision"], "state": "finite"}
    return named


def _curves(old: dict[str, Any], new: dict[str, Any], limits: Mapping[str, float]) -> Iterator[Difference]:
    for where in [*old, *(name for name in new if name not in old)]:
        was, now = old.get(where), new.get(where)
        if was is None or now is None or not _equal(where, was, now, limits):
            yield Difference(where, _shown(was), _shown(now))


def _equal(where: str, old: dict[str, Any], new: dict[str, Any], limits: Mapping[str, float]) -> bool:
    if old["state"] != new["state"] or old.get("unit") != new.get("unit"):
        return False
    a, b = old["value"], new["value"]
    if a is None or b is None:
        return a is b
    if not (math.isfinite(a) and math.isfinite(b)):
        return False
    if is_baseline(where):
        return bool(abs(a - b) <= (limits["baseline_relative"] + 1e-6) * max(abs(a), abs(b)))
    return bool(abs(a - b) <= limits["recovery_points"] + 1e-4)


def _shown(reading: dict[str, Any] | None) -> Any:
    if reading is None:
        return "absent"
    return reading["state"] if reading["value"] is None else reading["value"]
