"""These tests read results that `tests/results.py` makes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
