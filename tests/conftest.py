"""What every test has: no proof of a walk that somebody's harness remembers, and none that another test made."""

from __future__ import annotations

import itertools
import os

import pytest

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
    if mark := item.get_closest_marker("on_cpu"):
        from harness.environment import facts

        if not facts.backend().startswith("cpu"):
            pytest.skip(f"on a GPU: {mark.args[0]}")
