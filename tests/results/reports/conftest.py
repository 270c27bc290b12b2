"""Some of the tests of this folder run commands in a project of their own."""

from project import project  # noqa: F401
