"""The sweep: every cell of the grid, patched once.

    stepwise   one forward pass a cell; the reference, in `sweep.py`
    one-pass   the whole grid in one walk over the layers, in `one_pass.py`
    auto       one-pass, proven at two layers the first time a model's component is swept

What cannot be walked in one pass goes stepwise, and the result says so.
"""

from harness.patching.patch import Patch, patches_of
from harness.patching.slopes import Slopes, slopes
from harness.patching.sweep import Walk, check_question, forecast, walk

__all__ = ["Patch", "Slopes", "Walk", "check_question", "forecast", "patches_of", "slopes", "walk"]
