"""Fixtures for the tests of interception."""

from __future__ import annotations

import pytest
from toy_model import Toy


@pytest.fixture
def toy():
    return Toy()
