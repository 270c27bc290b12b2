"""A metric of the user's own: `module:function`, named in a case and run only with `--allow-code`.

    def f(clean, x) -> float        both rows float64 `[vocab]`, finite, ids that are -inf in both left out

`clean` are the clean run's logits and `x` those of another run. The function need not be a distance: its value on the
clean run itself is the upper end of a recovery. It returns None where it is undefined. Whoever calls `load` has asked
for permission before: `harness.jobs` refuses a case that names code without it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from harness.errors import UsageError
from harness.metrics.host import Row


@cache
def load(name: str) -> Callable[[Row, Row], float | None]:
    """Return the function that a name means. Raises UsageError where it cannot be imported or called."""
    import importlib

    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"the metric {name!r} cannot be imported: {error}") from error
    if not callable(found):
        raise UsageError(f"the metric {name!r} is a {type(found).__name__}, not a function of (clean, x)")

    def metric(clean: Row, x: Row) -> float | None:
        value = found(clean, x)
        return None if value is None else float(value)

    return metric
