"""A walk keeps to its budget: predicted before, measured after."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from plain_transformer import loaded
from test_one_pass import small

from harness.patching import memory

MEASURE = """
import json, resource, sys
import mlx.core as mx
from harness.engines import answer, engine_named
from harness.models import load
from harness.models.spec import SyntheticRow
from harness.vocabulary import Question, Sweep, Tokens

model = load(SyntheticRow(id="m", source="synthetic", architecture="llama", vocab=262144, layers=48))
mx.eval(model.module.parameters())
weights, before = mx.get_active_memory(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
mx.reset_peak_memory()
ids = tuple(range(10, 42))
prompts = (Tokens(each, tuple(map(str, each))) for each in (ids, (7, *ids[1:])))
given = answer(engine_named("native"), model, Question(*prompts, Sweep(("mlp_out",), positions=sys.argv[1]), ("l2",)))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps({"cells": len(given.curves[0].cells), "strategy": given.strategy,
                  "mlx": mx.get_peak_memory() - weights, "process": (after - before) * unit}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("positions", "cells"), [("all", 48), ("each", 48 * 32)])
def test_48_layers_of_262144_tokens_take_less_than_2_gb_above_the_weights(positions, cells):
    done = subprocess.run([sys.executable, "-c", MEASURE, positions], capture_output=True, text=True, check=True)
    measured = json.loads(done.stdout)
    assert (measured["cells"], measured["strategy"]) == (cells, "one-pass")
    assert measured["mlx"] < 2e9
    assert measured["process"] < 2e9


def test_a_budget_of_twice_the_bytes_holds_twice_the_rows(plain):
    model = loaded(plain)
    row = memory.row_bytes(model, 100)
    assert memory.rows_within(model, 100, 102 * row) == 100
    assert memory.rows_within(model, 100, 202 * row) == 200


def test_a_row_grows_with_tokens_and_shrinks_with_the_dtype():
    full, half = small("llama"), small("llama", "float16")
    assert memory.row_bytes(full, 64) > 6 * memory.row_bytes(full, 8)
    assert memory.row_bytes(half, 64) * 2 == pytest.approx(memory.row_bytes(full, 64), abs=2)


def test_little_free_memory_still_lets_a_few_rows_through(plain, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 1000)
    assert memory.rows_within(loaded(plain), 32) == memory._LEAST


def test_free_memory_is_a_plausible_number_of_bytes():
    assert 1 << 26 < memory.free_bytes() < 1 << 44
