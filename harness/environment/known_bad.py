"""Releases that are known to give wrong numbers, each with where that is written down.

`harness doctor` says which of them are installed. A row is a fact about somebody's release, so it needs a source that a
reader can look at; what can be tried on the spot is tried by the doctor's own probes instead.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
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


def installed(platform: str = sys.platform) -> Iterator[KnownBad]:
    """Yield the rows that apply to what is installed here."""
    for row in KNOWN_BAD:
        if row.platform in ("", platform) and _in(package_version(row.package), row.releases):
            yield row


def _in(version: str | None, releases: str) -> bool:
    try:
        return version is not None and SpecifierSet(releases).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False
