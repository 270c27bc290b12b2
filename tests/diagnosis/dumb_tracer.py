"""A second, dumb tracer: stores every input and every output of every module of a tiny model as NumPy arrays.

It shares no code with `harness.intercept` or `harness.diagnosis`. What it calls the first place is written out here
once more: the module that returns first among those whose inputs are finite and whose output is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import mlx.core as mx
import numpy as np


@dataclass
class Stored:
    """An array as NumPy has it, with the dtype it had."""

    values: np.ndarray
    dtype: object

    @classmethod
    def of(cls, array):
        wide = array.astype(mx.float32) if mx.issubdtype(array.dtype, mx.floating) else array
        return cls(np.array(wide), array.dtype)

    def back(self):
        return mx.array(self.values).astype(self.dtype)

    @property
    def is_mask(self):
        """Square, so not an activation here: -inf is what it is for."""
        return self.values.ndim >= 2 and self.values.shape[-1] == self.values.shape[-2]

    @property
    def finite(self):
        if self.is_mask:
            return not (np.isnan(self.values).any() or np.isposinf(self.values).any())
        return bool(np.isfinite(self.values).all())


def stored(value):
    if isinstance(value, mx.array):
        return Stored.of(value)
    if isinstance(value, (list, tuple)):
        return type(value)(stored(each) for each in value)
    if isinstance(value, dict) and not hasattr(value, "named_modules"):
        return {key: stored(each) for key, each in value.items()}
    return value


def restored(value):
    if isinstance(value, Stored):
        return value.back()
    if isinstance(value, (list, tuple)):
        return type(value)(restored(each) for each in value)
    return {key: restored(each) for key, each in value.items()} if type(value) is dict else value


def finite(value):
    if isinstance(value, Stored):
        return value.finite
    if isinstance(value, (list, tuple)):
        return all(finite(each) for each in value)
    return all(finite(each) for each in value.values()) if type(value) is dict else True


def trace(root, ids):
    """Run the model and return its calls in the order in which they returned."""
    calls, swapped = [], []
    modules = [(path, module) for path, module in root.named_modules()]
    for path, module in modules:
        before = type(module)
        swapped.append((module, before))
        module.__class__ = _storing(before, path, calls)
    try:
        mx.eval(root(mx.array([list(ids)])))
    finally:
        for module, before in reversed(swapped):
            module.__class__ = before
    return calls


def _storing(before, path, calls):
    def call(self, *args, **kwargs):
        given = stored(args), stored(kwargs)
        out = before.__call__(self, *args, **kwargs)
        calls.append(SimpleNamespace(path=path, module=self, args=given[0], kwargs=given[1], out=stored(out)))
        return out

    return type(before.__name__, (before,), {"__call__": call})


def appears(call):
    """Return whether a call's inputs are finite and its output is not."""
    return finite(call.args) and finite(call.kwargs) and not finite(call.out)


def first_place(calls):
    """Return the first call to return in which a non-finite value appears, or None."""
    return next((call for call in calls if appears(call)), None)


def parameters_finite(module):
    """Return whether the module's own parameters are."""
    arrays = [value for value in module.values() if isinstance(value, mx.array)]
    return all(finite(Stored.of(array)) for array in arrays if mx.issubdtype(array.dtype, mx.floating))


def replayed(call):
    """Call the module itself on the stored inputs."""
    return stored(call.module(*restored(call.args), **restored(call.kwargs)))


def element(array, tokens):
    """Return (token, dimension) of the first non-finite element of `[1, tokens, width]` or an array of four axes."""
    index = np.argwhere(~np.isfinite(array.values))[0]
    at = 1 if array.values.shape[1] == tokens else -2
    return int(index[at]), int(index[-1])


def disagreement(place, root, runs):
    """Return what of a diagnosed place does not hold in an independent run, or None.

    `runs` maps `clean` and `corrupted` to token ids. In the run that is named, the module's inputs and parameters must
    be finite and its output not, also when it is called alone; an earlier run must be finite.
    """
    for run, ids in runs.items():
        calls = trace(root, ids)
        first = first_place(calls)
        if run == place.run:
            return _differs(place, first, calls)
        if first is not None:
            return f"{first.path or 'the model'} is not finite in the {run} run"
    return None


def _differs(place, first, calls):
    if first is None:
        return "every module is finite"
    if first.path != (place.module or ""):
        return f"{first.path or 'the model'} comes first"
    if not parameters_finite(first.module):
        return "a parameter of it is not finite"
    if finite(replayed(first)):
        return "called alone on its inputs, it is finite"
    seen = elements(first, calls)
    if seen and (place.token, place.dimension) not in seen:
        return f"the first elements are at {sorted(seen)}"
    return None


def elements(first, calls):
    """Return the first non-finite element of a module's output, and of what it hands to each module in it.

    In an MLP that overflows between its parts the second is the one that overflowed.
    """
    logits = calls[-1].out[0] if isinstance(calls[-1].out, tuple) else calls[-1].out
    tokens = logits.values.shape[1]
    return {element(array, tokens) for array in _arrays(first, calls) if array.values.ndim in (3, 4)}


def _arrays(first, calls):
    prefix = f"{first.path}." if first.path else ""
    given = [each for call in calls if call.path.startswith(prefix) and call is not first for each in call.args]
    for value in (first.out, *given):
        array = value[0] if isinstance(value, tuple) else value
        if isinstance(array, Stored) and not finite(array):
            yield array
