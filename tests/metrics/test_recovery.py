"""Recovery is exact in percent, and has a state wherever it has no value."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.metrics import measure, recovery
from harness.vocabulary import Reading, State

INF, NAN, UNDEFINED = (Reading.absent(state) for state in (State.INF, State.NAN, State.UNDEFINED))


@pytest.mark.parametrize(
    ("clean", "corrupted", "patched", "percent"),
    [
        pytest.param(0.0, 4.0, 1.0, 75.0, id="distance"),
        pytest.param(0.0, 4.0, 5.0, -25.0, id="worse-than-corrupted"),
        pytest.param(0.0, 4.0, 0.0, 100.0, id="restored"),
        pytest.param(0.0, 4.0, 4.0, 0.0, id="no-effect"),
        pytest.param(3.0, -1.0, 5.0, 150.0, id="score-beyond-clean"),
        pytest.param(1e300, -1e300, 5e299, 75.0, id="huge"),
        pytest.param(1.7e308, -1.7e308, 0.0, 50.0, id="difference-beyond-float64"),
        pytest.param(0.0, 1e-300, 2.5e-301, 75.0, id="tiny-gap"),
        pytest.param(0.0, 1.5e-323, 5e-324, 200 / 3, id="subnormal-gap"),
    ],
)
def test_percent(clean: float, corrupted: float, patched: float, percent: float) -> None:
    got = recovery(Reading.of(clean), Reading.of(corrupted), Reading.of(patched))
    assert got.value == pytest.approx(percent, rel=1e-14)


@pytest.mark.parametrize(
    ("clean", "corrupted", "patched", "state"),
    [
        pytest.param(Reading.of(0.0), INF, Reading.of(1.0), State.UNDEFINED, id="inf-baseline"),
        pytest.param(Reading.of(0.0), NAN, Reading.of(1.0), State.UNDEFINED, id="nan-baseline"),
        pytest.param(NAN, Reading.of(1.0), Reading.of(1.0), State.UNDEFINED, id="nan-clean"),
        pytest.param(INF, INF, INF, State.UNDEFINED, id="everything-inf"),
        pytest.param(Reading.of(2.0), Reading.of(2.0), Reading.of(3.0), State.ZERO_BASELINE, id="no-gap"),
        pytest.param(Reading.of(0.0), Reading.of(-0.0), NAN, State.ZERO_BASELINE, id="no-gap-and-nan"),
        pytest.param(Reading.of(0.0), Reading.of(1.0), INF, State.INF, id="inf-patched"),
        pytest.param(Reading.of(0.0), Reading.of(1.0), NAN, State.NAN, id="nan-patched"),
        pytest.param(Reading.of(0.0), Reading.of(1.0), UNDEFINED, State.UNDEFINED, id="undefined-patched"),
        pytest.param(Reading.of(0.0), Reading.of(1e-300), Reading.of(1e300), State.INF, id="quotient-beyond-float64"),
    ],
)
def test_states(clean: Reading, corrupted: Reading, patched: Reading, state: State) -> None:
    assert recovery(clean, corrupted, patched) == Reading.absent(state)


@given(share=st.floats(0, 1), seed=st.integers(0, 999), vocab=st.integers(2, 200))
@settings(max_examples=50, deadline=None)
def test_l2_and_mse_recoveries_agree(share: float, seed: int, vocab: int) -> None:
    """recovery_l2 = 1 - sqrt(1 - recovery_mse), for any logits."""
    clean, corrupted, junk = np.random.default_rng(seed).standard_normal((3, vocab))
    patched = share * clean + (1 - share) * corrupted + 0.1 * junk
    l2, mse = (
        recovery(*(measure(metric, clean, row) for row in (clean, corrupted, patched))).value
        for metric in ("l2", "mse")
    )
    assert l2 is not None
    assert mse is not None
    assert l2 == pytest.approx(100 * (1 - math.sqrt(1 - mse / 100)), abs=1e-10)


@pytest.mark.parametrize("metric", ["l2", "mse", "cosine", "kl_divergence"])
def test_parallel_or_shifted_rows_are_a_zero_baseline_not_noise(metric: str) -> None:
    clean = np.random.default_rng(2).standard_normal(1000).astype(np.float16).astype(np.float64)
    corrupted = {"cosine": 3 * clean, "kl_divergence": clean + 2}.get(metric, clean)
    readings = (measure(metric, clean, row) for row in (clean, corrupted, 1.5 * corrupted))
    assert recovery(*readings).state is State.ZERO_BASELINE
