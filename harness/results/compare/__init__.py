"""Two runs side by side: what changed between versions, engines, dtypes or devices.

`compare` pairs the jobs of two results and says, job by job, how far baselines and recoveries moved, whether the
layers keep their order, and which findings came and went. `breaches` holds that against the limits of `--fail-on`.
Everything is read from the two result files: neither MLX nor a model is needed.
"""

from harness.results.compare.limits import DEFAULT, LIMITS, Breach, breaches, judge, parse_limits
from harness.results.compare.pairs import Match, Pair, pair
from harness.results.compare.runs import Comparison, CurveChange, JobChange, TimeRatio, compare

__all__ = [
    "DEFAULT",
    "LIMITS",
    "Breach",
    "Comparison",
    "CurveChange",
    "JobChange",
    "Match",
    "Pair",
    "TimeRatio",
    "breaches",
    "compare",
    "judge",
    "pair",
    "parse_limits",
]
