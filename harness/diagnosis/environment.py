"""The environment step: can this build be believed?

A reduction that drops NaN makes a model look sound, and a metric as well. The verdict on both questions asked here, the
detectors and the releases known to be bad, is that of `harness doctor`.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.diagnosis.outcome.nouns import Place, PlacedFinding
from harness.environment import detectors, known_bad
from harness.environment.detectors import DetectorVerdict
from harness.environment.facts import environment

PLACE = Place("environment")


def examine() -> tuple[list[PlacedFinding], str, str]:
    """Return what is wrong with the environment, the environment in one line, and how the detectors did."""
    env, verdict = environment(), detectors.examine()
    facts = f"mlx {env.packages.get('mlx', '?')}, {env.backend}, {env.device}, Python {env.python}"
    return [*unsafe_detectors(verdict), *known_bad_releases()], facts, f"detectors: {verdict}"


def unsafe_detectors(verdict: DetectorVerdict) -> Iterator[PlacedFinding]:
    """Yield one finding that lists every primitive that misses what it was shown, or sees what is not there."""
    if not verdict.safe:
        yield PlacedFinding.of(
            "DIA001",
            str(verdict),
            PLACE,
            primitives=sorted(each.name for each in verdict.wrong),
            examples=[rows[0] for rows in (*verdict.missed.values(), *verdict.invented.values())],
        )


def known_bad_releases() -> Iterator[PlacedFinding]:
    """Yield a finding for every installed release that is known to give wrong numbers."""
    for row, version in known_bad.installed():
        message = f"{row.package} {version}: {row.effect} ({row.source})"
        yield PlacedFinding.of("DIA002", message, PLACE, package=row.package, version=version)
