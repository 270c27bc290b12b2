"""The sweep: every cell of the grid, patched once.

A strategy answers the same question in its own order of work; `stepwise`, one forward pass per cell, is the reference
that every other one is held against.
"""

from harness.patching.sweep import STRATEGIES, Walk, check_question, walk

__all__ = ["STRATEGIES", "Walk", "check_question", "walk"]
