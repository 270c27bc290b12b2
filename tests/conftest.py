"""What every test has: no proof of a walk that somebody's harness remembers, and none that another test made."""

from __future__ import annotations

import itertools

import pytest

_COUNT = itertools.count()


@pytest.fixture(scope="session")
def _proofs(tmp_path_factory):
    return tmp_path_factory.mktemp("proofs")


@pytest.fixture(autouse=True)
def _no_remembered_proofs(monkeypatch, _proofs):
    monkeypatch.setenv("HARNESS_PROOFS", str(_proofs / str(next(_COUNT))))
