"""The fault zoo: every way in which a patching result went wrong that we have a report of, planted in small models.

A diagnoser is judged like a test suite: by how many planted faults it names, place and cause, and by how many clean
models it leaves alone.

    fault.py      what a fault and its required diagnosis are, as data
    models.py     the small models; surgery.py: how a fault gets into one
    metric.py, recovery.py, overflow.py, arithmetic.py, weights.py, attention.py, build.py, patching.py: the faults
    injection.py  faults nobody listed: a value at a random element of a random weight or output
    clean.py      models without a fault
    trial.py      diagnosing a planting, and judging the diagnosis; page.py: the table as people read it
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.diagnosis.zoo import (
    arithmetic,
    attention,
    build,
    constancy,
    loading,
    metric,
    overflow,
    patching,
    recovery,
    weights,
)
from harness.diagnosis.zoo.fault import KINDS, PlantedFault, Planting

__all__ = ["KINDS", "ZOO", "PlantedFault", "Planting"]

_FAMILIES = (metric, recovery, overflow, weights, attention, build, patching, constancy, loading, arithmetic)

ZOO: Mapping[str, PlantedFault] = dict(sorted((fault.id, fault) for family in _FAMILIES for fault in family.FAULTS))
"""Id -> fault, in the order of the ids."""
