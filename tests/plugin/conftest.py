"""The tests of this folder run commands in a project of their own."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from project import project  # noqa: F401
