"""Faults that nobody listed get their place named: a value at a random element of a random weight or output."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import dumb_tracer
import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from harness.diagnosis import diagnose
from harness.diagnosis.zoo.injection import inject
from harness.diagnosis.zoo.models import CLEAN, CORRUPTED

RUNS = {"clean": CLEAN, "corrupted": CORRUPTED}
A_TEST = 10
SEEDS = [
    pytest.param(range(start, start + A_TEST), marks=[pytest.mark.slow] if start >= 30 else [], id=f"from {start}")
    for start in range(0, 210, A_TEST)
]


KINDS_OF_INJECTION = (
    lambda drawn: drawn.run == "weights" and len(drawn.shape) == 2 and not drawn.is_huge,
    lambda drawn: drawn.run == "clean" and len(drawn.shape) == 3 and drawn.value > 0 and not drawn.is_huge,
    lambda drawn: drawn.run == "corrupted" and len(drawn.shape) == 3 and drawn.value > 0 and not drawn.is_huge,
    lambda drawn: drawn.is_huge and dumb_tracer.first_place(dumb_tracer.trace(drawn.model.module, CLEAN)) is not None,
)


def wrong_with(seed, diagnose=diagnose):
    """Return what is wrong with the place that is named for an injection, or None."""
    injection = inject(seed)
    place = diagnose(**injection.arguments).place
    root = injection.model.module
    if injection.is_huge:
        return _wrong_if_huge(place, root)
    if place is None:
        return "nothing was found"
    differing = {key: getattr(place, key) for key, value in injection.place.items() if getattr(place, key) != value}
    if differing:
        return f"named {place} ({differing})"
    return None if place.run == "weights" else dumb_tracer.disagreement(place, root, RUNS)


def _wrong_if_huge(place, root):
    """A huge value is a number: what counts is where, and whether, it overflows."""
    overflows = any(dumb_tracer.first_place(dumb_tracer.trace(root, ids)) for ids in RUNS.values())
    if place is not None and place.run in RUNS:
        return None if _is_swallowed(place, root) else dumb_tracer.disagreement(place, root, RUNS)
    if overflows:
        return f"named {place}, though a forward pass is not finite"
    return f"named {place}, though every weight is a number" if place is not None and place.run == "weights" else None


def _is_swallowed(place, root):
    """Whether a norm is named that makes 0 of a row, because its squares overflow inside of it: all of it is finite."""
    call = next((call for call in dumb_tracer.trace(root, RUNS[place.run]) if call.path == place.module), None)
    if call is None or "Norm" not in type(call.module).__name__ or not dumb_tracer.finite(call.out):
        return False
    arrays = call.args[0], call.out
    given, made = (each.values.reshape(-1, each.values.shape[-1])[place.token] for each in arrays)
    limit = 65504.0 if call.args[0].dtype == mx.float16 else 3.4e38
    return bool((made == 0).all()) and float((given.astype(np.float64) ** 2).sum()) > limit


@pytest.mark.parametrize("seeds", SEEDS)
def test_the_first_place_of_a_random_injection_is_named(seeds):
    wrong = {seed: said for seed in seeds if (said := wrong_with(seed))}
    told = "".join(f"\n  {inject(seed)}: {said}" for seed, said in wrong.items())
    assert not wrong, f"{len(seeds) - len(wrong)} of {len(seeds)} first places are right; wrong:{told}"


@cache
def one_of_each_kind():
    """The first seeds that inject into a weight, into the clean run, into the corrupted run only, and a huge value."""
    return [next(seed for seed in range(200) if kind(inject(seed))) for kind in KINDS_OF_INJECTION]


def next_module(place):
    return replace(place, module=f"{place.module}.next")


def next_token(place):
    return replace(place, token=0 if place.token is None else place.token + 1)


def next_dimension(place):
    return replace(place, dimension=None if place.dimension is None else place.dimension + 1)


def other_run(place):
    return replace(place, run="corrupted" if place.run == "clean" else "clean")


@pytest.mark.parametrize(
    "mistake", [next_module, next_token, next_dimension, other_run], ids=lambda each: each.__name__
)
def test_a_diagnoser_that_names_the_wrong_place_is_seen(mistake):
    def mistaken(**arguments):
        found = diagnose(**arguments)
        return replace(found, findings=tuple(replace(each, place=mistake(each.place)) for each in found.findings))

    assert all(wrong_with(seed, mistaken) for seed in one_of_each_kind())


@pytest.mark.parametrize("seed", range(30))
def test_an_injection_is_where_it_says(seed):
    """Without any diagnoser: the weight holds the value, or the module is the first whose output is not finite."""
    injection = inject(seed)
    if injection.run == "weights":
        array = dict(tree_flatten(injection.model.module.parameters()))[injection.target]
        planted = float(array.astype(mx.float32).reshape(-1)[injection.element])
        assert planted == pytest.approx(injection.value, rel=1e-2, nan_ok=True)
        rest = np.delete(np.array(array.astype(mx.float32)).reshape(-1), injection.element)
        assert np.isfinite(rest).all()
    elif not injection.is_huge:
        place = type("Place", (), {"token": None, "dimension": None, **injection.place})
        assert dumb_tracer.disagreement(place, injection.model.module, RUNS) is None


def test_the_same_seed_injects_the_same():
    again = [inject(7), inject(7)]
    assert str(again[0]) == str(again[1])
    assert len({str(inject(seed)) for seed in range(8)}) == 8


def test_injections_reach_weights_and_outputs_of_both_runs_with_every_value():
    drawn = [inject(seed) for seed in range(24)]
    assert {each.run for each in drawn} == {"weights", "clean", "corrupted"}
    assert {each.dtype for each in drawn} == {"float16", "bfloat16", "float32"}
    values = {"huge" if each.is_huge else str(each.value) for each in drawn}
    assert values == {"nan", "inf", "-inf", "huge"}


def test_a_norm_that_swallows_an_overflow_in_float32_is_not_to_be_run_in_float32():
    (cause, *_) = diagnose(**inject(11).arguments).findings
    assert (cause.code, cause.evidence["limit"]) == ("DIA214", pytest.approx(2.0**128, rel=1e-6))
    assert "float32" not in cause.hint
