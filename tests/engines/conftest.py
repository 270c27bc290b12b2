"""Fixtures for the tests of engines."""

from float32_copies import made  # noqa: F401
