"""Fixtures for the tests of sweeps."""

from __future__ import annotations

import pytest
from plain_transformer import Transformer


@pytest.fixture
def plain():
    return Transformer()
