"""Float32 sweeps notice products of 11 bits: a GPU that multiplies in TF32 does not pass for float32."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from shortened import blur_all, shorten_all

from harness import models
from harness.casefile import find_cases
from harness.engines import answer, engine_named
from harness.environment.facts import environment
from harness.jobs.pairs import questions_of
from harness.jobs.planning import Job, blank_result, jobs_in, tolerances
from harness.models import bundled
from harness.snapshots import differences, location_of, snapshot_of
from harness.snapshots.file import read
from harness.vocabulary import Status
from harness.vocabulary.errors import ModelUnavailable

ROOT = Path(__file__).parents[2]
FAST = ("noising[native@llama-2k-f32]", "ladder[native@llama-2k-f32]", "heads[native@llama-2k-f32]")


def sweeps() -> Iterator[Job]:
    """The float32 jobs whose answers are no closed form: 0 and 100 come out of any product."""
    for file in find_cases([ROOT / "cases"]):
        for job in jobs_in(file, bundled()):
            quantized = getattr(job.row, "quantized", False) or getattr(job.row, "quantize", None)
            plain = getattr(job.row, "dtype", None) == "float32" and not quantized
            if plain and job.engine == "native" and job.row.source != "groundtruth":
                yield job


JOBS = {job.id: job for job in sweeps()}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in JOBS], ids=str
)
def test_products_of_11_bits_are_beyond_every_tolerance(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = JOBS[name]
    try:
        model = models.load(job.row)
    except ModelUnavailable as error:
        pytest.skip(str(error))
    stored = read(location_of(job.case.path, job.name, "cpu"))

    def moved(strategy: str = job.case.sweep.strategy) -> list[list[object]]:
        question = questions_of(job.case, model, job.case.metrics)[0]
        question = replace(question, sweep=replace(question.sweep, strategy=strategy))
        given = blank_result(job, Status.PASSED).answered(answer(engine_named("native"), model, question))
        given = replace(given, card=model.card, clean=question.clean, corrupted=question.corrupted)
        here, elsewhere = tolerances(job, given)
        new = snapshot_of(given, environment(), here)
        return [[*differences(stored, new, within)] for within in (here, elsewhere)]

    assert moved() == [[], []]
    # Noise is the same for all runs of one shape, so that step by step some of it cancels.
    for made_wrong, strategy in ((shorten_all, "auto"), (blur_all, "auto"), (blur_all, "stepwise")):
        with monkeypatch.context() as patched:
            made_wrong(patched)
            same_backend, other_backend = moved(strategy)
        assert same_backend, (made_wrong, strategy)
        assert other_backend, (made_wrong, strategy)
