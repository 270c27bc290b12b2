"""Releases that are known to give wrong numbers, each with where that is written down.

`harness doctor` and `harness diagnose` say which of them are installed. A row is a fact about somebody's release, so it
needs a source that a reader can look at; faults that can be tried on the spot are tried by `detectors.py` instead. Rows
of releases that pyproject.toml no longer allows stay, for results that come from elsewhere and forced installations.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from harness.environment.facts import package_version


@dataclass(frozen=True)
class KnownBad:
    """Releases of a package, on a `sys.platform` (empty: any), what goes wrong with them, and who says so."""

    package: str
    releases: str
    platform: str
    effect: str
    source: str

    def __str__(self) -> str:
        return f"{self.package} {self.releases}: {self.effect} ({self.source})"


KNOWN_BAD: tuple[KnownBad, ...] = (
    KnownBad(
        "mlx",
        "<0.32.3",
        "linux",
        "float16 and bfloat16 sums on the CPU stall at a plausible wrong number instead of reaching the sum or inf",
        "ml-explore/mlx#4379, widened by #4387",
    ),
    KnownBad(
        "mlx",
        ">=0.31,<0.32",
        "darwin",
        "quantized_matmul of 32,768 rows or more returns garbage in its first rows, without an error",
        "mflux-community/mflux#489",
    ),
    KnownBad(
        "mlx",
        "==0.31.2",
        "darwin",
        "mx.fast.scaled_dot_product_attention was seen to differ from the plain formula at 82 tokens, 8 heads of 64",
        "ml-explore/mlx#3585",
    ),
)


_ORDER: Mapping[str, Callable[[Version, Version], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
}


def installed() -> Iterator[tuple[KnownBad, str]]:
    """Yield the rows that apply to this machine, each with the version of its package that is installed."""
    for row in KNOWN_BAD:
        version = package_version(row.package)
        if version is not None and row.platform in ("", sys.platform) and _within(version, row.releases):
            yield row, version


def _within(version: str, releases: str) -> bool:
    """Return whether a version lies in a range such as `>=0.31,<0.32`, by the order of `packaging.version` alone.

    0.32.3rc1 comes before 0.32.3 and so lies in `<0.32.3`: its number does not show that it was cut after the fix.
    `SpecifierSet.contains` leaves it out, because it chooses a release to install, and who asks for `<0.32.3` does not
    want a candidate of 0.32.3. A local build (`0.32.2+cpu`) counts as its release; text that is no version by PEP 440
    lies in no range.
    """
    try:
        own = Version(Version(version).public)
    except InvalidVersion:
        return False
    return all(_ORDER[limit.operator](own, Version(limit.version)) for limit in SpecifierSet(releases))
