"""Which installed releases are known to be bad, and that `doctor` and `diagnose` say the same of them."""

from __future__ import annotations

import re
import sys

import pytest
from packaging.specifiers import SpecifierSet

from harness.diagnosis import environment as diagnosis_environment
from harness.environment import doctor, known_bad
from harness.environment.known_bad import KNOWN_BAD, KnownBad, installed

PLATFORMS = ("linux", "darwin", "win32")

LIES = {
    ("mlx", "<0.32.3"): {
        "0.1": True, "0.32.2": True, "0.32.2+cpu": True, "0.32.2.post1": True, "0.32.3.dev20250101": True,
        "0.32.3rc1": True, "0.32.3": False, "0.32.3+cpu": False, "0.33": False,
    },
    ("mlx", ">=0.31,<0.32"): {
        "0.30.9": False, "0.31.0.dev1": False, "0.31": True, "0.31.2rc1": True, "0.31.9": True, "0.32.0rc1": True,
        "0.32": False, "0.32.1": False,
    },
    ("mlx", "==0.31.2"): {
        "0.31.1": False, "0.31.2rc1": False, "0.31.2": True, "0.31.2+local": True, "0.31.3.dev1": False,
        "0.31.3": False,
    },
}  # fmt: skip
"""Of every row: versions below, inside and above its range, and pre-releases at its edges."""


@pytest.mark.parametrize("row", KNOWN_BAD, ids=lambda row: f"{row.package}{row.releases}")
def test_every_row_can_be_looked_up(row: KnownBad):
    assert SpecifierSet(row.releases)
    assert row.platform in ("", *PLATFORMS)
    assert re.search(r"[\w-]+/[\w-]+#\d+", row.source)
    assert len(row.effect) > 30


def test_every_row_has_its_versions_here():
    assert {(row.package, row.releases) for row in KNOWN_BAD} == set(LIES)
    assert all(len(set(versions.values())) == 2 for versions in LIES.values())


@pytest.fixture
def machine(monkeypatch):
    """Put a version of mlx and a platform in the place of this machine's."""

    def become(version: str | None, platform: str) -> None:
        monkeypatch.setattr(known_bad, "package_version", lambda name: version)
        monkeypatch.setattr(sys, "platform", platform)

    monkeypatch.setattr(doctor, "gflops", lambda: 100.0)
    yield become
    monkeypatch.undo()


def told_by_doctor() -> list[str]:
    """Return the sources that `harness doctor` names."""
    notes = [note for note in doctor.examine().notes if note.startswith("known bad release: ")]
    return [note.rpartition("(")[2].rstrip(")") for note in notes]


def told_by_diagnose() -> list[str]:
    """Return the sources that `harness diagnose` names."""
    found, *_ = diagnosis_environment.examine()
    return [each.message.rpartition("(")[2].rstrip(")") for each in found if each.code == "DIA002"]


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize(
    ("row", "version"),
    [(row, version) for row in KNOWN_BAD for version in LIES[row.package, row.releases]],
    ids=lambda value: f"{value.package}{value.releases}" if isinstance(value, KnownBad) else value,
)
def test_both_commands_name_a_row_where_it_applies(machine, row: KnownBad, version: str, platform: str):
    machine(version, platform)
    applies = LIES[row.package, row.releases][version] and row.platform in ("", platform)
    assert (row.source in told_by_doctor()) is applies
    assert told_by_doctor() == told_by_diagnose()


@pytest.mark.parametrize(
    ("version", "platform", "sources"),
    [
        ("0.32.2", "linux", {"4379"}),
        ("0.32.3", "linux", set()),
        ("0.32.3rc1", "linux", {"4379"}),
        ("0.31.2", "linux", {"4379"}),
        ("0.31.2", "darwin", {"489", "3585"}),
        ("0.31.0.dev1", "linux", {"4379"}),
        ("0.32.2", "darwin", set()),
        ("local build", "linux", set()),
        (None, "linux", set()),
    ],
)
def test_a_release_is_known_by_its_range_and_platform(machine, version: str | None, platform: str, sources: set[str]):
    machine(version, platform)
    assert {re.findall(r"#(\d+)", row.source)[0] for row, _ in installed()} == sources


def test_a_finding_names_the_version_that_is_installed(machine):
    machine("0.32.2", "linux")
    (found,) = diagnosis_environment.known_bad_releases()
    assert found.evidence == {"package": "mlx", "version": "0.32.2"}
    assert found.message.startswith("mlx 0.32.2: float16 and bfloat16 sums on the CPU stall")


def test_doctor_knows_the_memory():
    from harness.environment.doctor import memory

    total, free = map(float, re.findall(r"[\d.]+(?= GiB)", memory()))
    assert 0 < free <= total
