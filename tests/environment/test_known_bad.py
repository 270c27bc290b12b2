"""Which installed releases are known to be bad, and that every row has a range, an effect and a source."""

from __future__ import annotations

import re
import sys

import pytest
from packaging.specifiers import SpecifierSet

from harness.environment import known_bad
from harness.environment.known_bad import KNOWN_BAD, installed


@pytest.mark.parametrize("row", KNOWN_BAD, ids=lambda row: f"{row.package}{row.releases}")
def test_every_row_can_be_looked_up(row: known_bad.KnownBad):
    assert SpecifierSet(row.releases)
    assert re.search(r"[\w-]+/[\w-]+#\d+", row.source)
    assert len(row.effect) > 30


@pytest.mark.parametrize(
    ("version", "platform", "sources"),
    [
        ("0.32.2", "linux", {"4379"}),
        ("0.32.3", "linux", set()),
        ("0.31.2", "linux", {"4379"}),
        ("0.31.2", "darwin", {"489", "3585"}),
        ("0.31.0.dev1", "linux", {"4379"}),
        ("0.32.2", "darwin", set()),
        ("local build", "linux", set()),
        (None, "linux", set()),
    ],
)
def test_a_release_is_known_by_its_range_and_platform(
    monkeypatch, version: str | None, platform: str, sources: set[str]
):
    monkeypatch.setattr(known_bad, "package_version", lambda name: version)
    assert {re.findall(r"#(\d+)", row.source)[0] for row in installed(platform)} == sources


def test_doctor_says_it(monkeypatch):
    from harness.environment.doctor import examine

    monkeypatch.setattr(known_bad, "package_version", lambda name: "0.31.2")
    notes = [note for note in examine().notes if note.startswith("known bad release: mlx ")]
    assert len(notes) == len(list(installed(sys.platform)))


def test_doctor_knows_the_memory():
    from harness.environment.doctor import memory

    total, free = map(float, re.findall(r"[\d.]+(?= GiB)", memory()))
    assert 0 < free <= total
