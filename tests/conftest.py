"""What every test has: no proof of a walk that somebody's harness remembers, and none that another test made."""

from __future__ import annotations

import itertools
import os
import re
from importlib.metadata import version
from pathlib import Path

import pytest

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"

_COUNT = itertools.count()


@pytest.fixture(scope="session")
def _proofs(tmp_path_factory):
    return tmp_path_factory.mktemp("proofs")


@pytest.fixture(autouse=True)
def _no_remembered_proofs(monkeypatch, _proofs):
    monkeypatch.setenv("HARNESS_PROOFS", str(_proofs / str(next(_COUNT))))


def pytest_runtest_setup(item):
    if os.environ.get("EMULATE") and (mark := item.get_closest_marker("as_installed")):
        pytest.skip(f"under an emulation: {mark.args[0]}")
    if mark := item.get_closest_marker("constrained"):
        (package,) = mark.args
        (pinned,) = re.findall(rf"(?m)^{package}==(\S+)", CONSTRAINTS.read_text(encoding="utf-8"))
        if version(package) != pinned:
            pytest.skip(f"it is about {package} {pinned}; {version(package)} is installed")
    if mark := item.get_closest_marker("on_cpu"):
        from harness.environment import facts

        if not facts.backend().startswith("cpu"):
            pytest.skip(f"on a GPU: {mark.args[0]}")
