"""A metric of the user's own: `module:function`, named in a case and run only with `--allow-code`.

    def f(clean, x) -> float        both rows float64 `[vocab]`, read-only, finite, ids -inf in both left out

`clean` are the clean run's logits and `x` those of another run. The function need not be a distance: its value on the
clean run itself is the upper end of a recovery. It returns None where it is undefined. Whoever calls `load` has asked
for permission before: `harness.jobs.planning` refuses a case that names code without it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from harness.metrics.host import Row
from harness.support.user_code import contained, function_named


@cache
def load(name: str) -> Callable[[Row, Row], float | None]:
    """Return the function that a name means. Raises UsageError where it cannot be imported or called."""
    found = function_named(name, "metric")

    @contained
    def metric(clean: Row, x: Row) -> float | None:
        value = found(_read_only(clean), _read_only(x))
        return None if value is None else float(value)

    return metric


def _read_only(row: Row) -> Row:
    """Return a copy that refuses to be written. The owner of an array may make it writable again, so the harness's own
    row is not handed out."""
    copy = row.copy()
    copy.setflags(write=False)
    return copy
