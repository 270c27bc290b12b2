"""The self-test sees a blind detector and one that cries wolf, and says what this build of MLX does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import harness.metrics
from harness.doctor import examine
from harness.environment import environment
from harness.metrics import measure, summarize
from harness.vocabulary import Reading


def probe(name: str):
    return next(probe for probe in examine().probes if probe.name == name)


def test_this_machine_is_fit():
    report = examine()
    assert report.fit
    assert [found.passed for found in report.probes] == [True, True]
    # 3 dtypes x 3 faults x (1 + 3 + 3 + 3) places
    assert "90 planted values found, none invented" in report.probes[0].detail


def test_it_says_where_it_runs():
    facts = examine().facts
    assert {"harness", "python", "platform", "backend", "device", "mlx", "mlx-lm", "MLX_ENABLE_TF32"} <= set(facts)
    assert all(facts.values())
    assert facts["backend"] == environment().backend


def test_a_detector_that_drops_nan_is_not_fit(monkeypatch):
    monkeypatch.setattr(harness.metrics, "summarize", lambda row: summarize(np.where(np.isnan(row), 0.0, row)))
    found = probe("finiteness detector")
    assert not found.passed
    assert found.detail.startswith("missed nan in mlx.core.float32 at 0 of 1; ")
    assert not examine().fit


def test_a_detector_that_misses_the_end_of_a_row_is_not_fit(monkeypatch):
    monkeypatch.setattr(harness.metrics, "summarize", lambda row: summarize(row[:-1] if row.size > 1024 else row))
    found = probe("finiteness detector")
    assert not found.passed
    assert "at 151935 of 151936" in found.detail


def test_a_detector_that_flags_clean_values_is_not_fit(monkeypatch):
    monkeypatch.setattr(harness.metrics, "summarize", lambda row: replace(summarize(row), nan=1))
    found = probe("finiteness detector")
    assert not found.passed
    assert "flagged clean mlx.core.float32 width 1" in found.detail


def test_a_metric_that_loses_digits_is_not_fit(monkeypatch):
    def single(*about):
        return Reading.of(float(np.float32(measure(*about).value)))

    monkeypatch.setattr(harness.metrics, "measure", single)
    found = probe("float64 metrics")
    assert not found.passed
    assert f"closed form {0.75 * 151_936**0.5:.10g}" in found.detail


def test_it_says_what_a_float16_sum_does_here():
    notes = [note for note in examine().notes if note.startswith("a float16 sum of 100,352 ones ")]
    assert len(notes) == 1
    assert "overflows to inf" in notes[0] or "a plausible wrong number" in notes[0]
