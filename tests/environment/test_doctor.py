"""The self-test sees a blind detector and one that cries wolf, and says what this build of MLX does."""

from __future__ import annotations

import sys
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from shortened import PLAIN, shortened

import harness.metrics
from harness.environment import doctor
from harness.environment.doctor import examine
from harness.environment.facts import environment
from harness.metrics import measure, summarize
from harness.support import blas
from harness.vocabulary import Reading
from harness.vocabulary.backends import CPU, CUDA, METAL


def probe(name: str):
    return next(probe for probe in examine().probes if probe.name == name)


def test_this_machine_is_fit():
    report = examine()
    assert report.fit
    assert [found.passed for found in report.probes] == [True, True, True]
    # 3 dtypes x 4 faults x (1 + 13 x 3) places
    assert report.probes[0].detail == "480 planted values found, none invented"


def test_it_says_where_it_runs():
    facts = examine().facts
    assert {"harness", "python", "platform", "backend", "device", "mlx", "mlx-lm", "MLX_ENABLE_TF32"} <= set(facts)
    assert all(facts.values())
    assert facts["backend"] == environment().backend


def test_a_detector_that_drops_nan_is_not_fit(monkeypatch):
    monkeypatch.setattr(harness.metrics, "summarize", lambda row: summarize(np.where(np.isnan(row), 0.0, row)))
    found = probe("finiteness detector")
    assert not found.passed
    assert found.detail.startswith("the host's copy: 240 planted values missed, such as NaN in float16 at 0 of 1 ")
    assert not examine().fit


def test_a_detector_that_misses_the_end_of_a_row_is_not_fit(monkeypatch):
    monkeypatch.setattr(harness.metrics, "summarize", lambda row: summarize(row[:-1] if row.size > 5000 else row))
    found = probe("finiteness detector")
    assert not found.passed
    assert "at 151935 of 151936" in found.detail


def test_a_detector_that_flags_clean_values_is_not_fit(monkeypatch):
    monkeypatch.setattr(harness.metrics, "summarize", lambda row: replace(summarize(row), nan=1))
    found = probe("finiteness detector")
    assert not found.passed
    assert "42 clean rows flagged, such as clean float16 of 1" in found.detail


def test_a_metric_that_loses_digits_is_not_fit(monkeypatch):
    def single(*about):
        return Reading.of(float(np.float32(measure(*about).value)))

    monkeypatch.setattr(harness.metrics, "measure", single)
    found = probe("float64 metrics")
    assert not found.passed
    assert f"closed form {0.75 * 151_936**0.5:.10g}" in found.detail


@pytest.mark.parametrize("which", ["matmul", "addmm"])
@pytest.mark.parametrize("bits", [8, 11, 16, 21])
def test_a_product_of_shorter_factors_is_not_fit(monkeypatch, which, bits):
    monkeypatch.setattr(mx, which, shortened(which, bits))
    found = probe("float32 products")
    assert not found.passed
    assert f" keeps {bits} of 24 bits" in found.detail
    assert (" (TF32)" in found.detail) == (bits == 11)
    assert found.detail.endswith("set MLX_ENABLE_TF32=0 before Python imports MLX")


KERNELS = {
    "a row": lambda left, right: left.shape[-2] == 1,
    "a few rows": lambda left, right: left.shape[-2] == 4,
    "many rows": lambda left, right: left.shape[-2] == 128,
    "a long sum": lambda left, right: left.shape[-1] > 4096,
    "a batch": lambda left, right: left.ndim > 2,
}


@pytest.mark.parametrize("name", KERNELS)
def test_one_kernel_of_shorter_factors_is_named(monkeypatch, name):
    monkeypatch.setattr(mx, "matmul", shortened("matmul", 11, KERNELS[name]))
    assert probe("float32 products").detail.startswith(f"a float32 product ({name} [")


@pytest.mark.parametrize("pieces", [2, 4, 8])
def test_another_order_of_summation_loses_no_bit(monkeypatch, pieces):
    """Split-K and the like: pieces of the sum, added up in the end."""

    def split(left, right):
        size = left.shape[-1] // pieces
        cuts = [slice(start, start + size) for start in range(0, left.shape[-1], size)]
        return sum(PLAIN["matmul"](left[..., cut], right[..., cut, :]) for cut in cuts)

    monkeypatch.setattr(mx, "matmul", split)
    assert probe("float32 products").detail == "24 of 24 bits kept in products of 5 shapes"


def test_it_says_what_a_float16_sum_does_here():
    notes = [note for note in examine().notes if note.startswith("a float16 sum of 100,352 ones ")]
    assert len(notes) == 1
    assert "overflows to inf" in notes[0] or "a plausible wrong number" in notes[0]


def test_it_says_how_fast_it_multiplies_and_with_what():
    facts = examine().facts
    assert float(facts["float32 GFLOP/s"]) > 0.05
    assert facts["BLAS"]


def test_the_speed_is_work_over_time(monkeypatch):
    """A clock that moves 1 ms a look: 2 x 10 x 100 x 100 operations in one look are 0.2 GFLOP/s."""
    ticks = iter(range(1_000_000))
    monkeypatch.setattr(doctor.time, "perf_counter", lambda: next(ticks) * 1e-3)
    assert doctor.gflops(10, 100, 0.02) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("speed", "backend", "system", "advised"),
    [
        (2.5, CPU, "linux", True),
        (19.9, CPU, "linux", True),
        (20.0, CPU, "linux", False),
        (160.0, CPU, "linux", False),
        (2.5, METAL, "darwin", False),
        (2.5, CPU, "darwin", False),
        (2.5, CUDA, "linux", False),
    ],
)
def test_a_faster_blas_is_advised_where_one_can_take_its_place(monkeypatch, speed, backend, system, advised):
    monkeypatch.setattr(sys, "platform", system)
    line = doctor.faster_blas(speed, backend)
    assert (line is not None) == advised
    if line:
        assert line.startswith(f"{speed:.2g} GFLOP/s is a slow BLAS")
        assert line.endswith(blas.advice())
        assert "\n" not in line


def test_a_slow_machine_is_told_and_still_fit(monkeypatch):
    monkeypatch.setattr(doctor, "gflops", lambda: 1.25)
    monkeypatch.setattr(doctor, "faster_blas", lambda speed, backend: f"{speed} on {backend}")
    report = examine()
    assert report.notes[-1] == f"1.25 on {environment().backend}"
    assert report.fit


@pytest.mark.parametrize(("chosen", "told"), [("none", True), ("mkl", True), ("stock", False), ("", False)])
def test_a_choice_of_blas_that_nobody_heeds_is_told(monkeypatch, chosen, told):
    monkeypatch.setenv(blas.VARIABLE, chosen)
    assert any(f"HARNESS_BLAS={chosen} is not heeded" in note for note in examine().notes) is told
