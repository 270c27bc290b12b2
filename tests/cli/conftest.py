"""The tests of this folder run commands in a project of their own."""

from float32_copies import made  # noqa: F401
from project import project  # noqa: F401
