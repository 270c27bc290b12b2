"""A fixture that notes the float32 copies of quantised models that a test makes."""

from __future__ import annotations

import weakref

import pytest

from harness.engines import dequantised


@pytest.fixture
def made(monkeypatch):
    """The copies that are made."""
    made, real = [], dequantised.dequantised

    def make(model):
        made.append(weakref.ref(copy := real(model)))
        return copy

    monkeypatch.setattr(dequantised, "dequantised", make)
    return made
