"""Jobs made in memory: a case, a model and an engine, run by `harness.jobs.run` as they would be from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import models
from harness.casefile import Case, CaseFile
from harness.intercept.constancy import Constancy
from harness.jobs import run as jobs
from harness.jobs.planning import Job
from harness.jobs.run import ModelCache
from harness.models.fingerprint import settled
from harness.models.loaded import LoadedModel
from harness.models.spec import DialRow
from harness.vocabulary import JobResult

WEIGHTS = (0.25, 0.5, 0.75, 1.0)


def case(**written: Any) -> Case:
    """Return a case; what is not given is the default of a case file, on the ids [0] and [1]."""
    fields = {"id": "planted", "models": ("planted",), "prompts": {"clean": (0,), "corrupted": (1,)},
              "sweep": {"components": ("mlp",)}}  # fmt: skip
    return Case.of(CaseFile.model_validate({**fields, **written}), Path("planted.case.yaml"))


def dial(**fields: Any) -> LoadedModel:
    row = {"id": "planted", "source": "groundtruth", "kind": "dial", "vocab": 2048, "weights": WEIGHTS}
    return models.load(DialRow(**{**row, **fields}))


def run(model: LoadedModel, engine: str = "native", strict: bool = False, **written: Any) -> JobResult:
    """Run one job on a model that is already there."""
    row = DialRow(id="planted", source="groundtruth", kind="dial", vocab=16, weights=(1.0,))
    return jobs.run(Job(case(**written), row, engine, allow_code=True), _OneModel(model), strict=strict)


def codes(result: JobResult) -> set[str]:
    """Return the codes found. A job that ended in another way than a verdict is no answer to what was found."""
    assert result.status in ("passed", "failed"), result.reason
    return {finding.code for finding in result.findings}


class _OneModel(ModelCache):
    def __init__(self, model: LoadedModel):
        super().__init__()
        self.constancy, self.before = Constancy(model), settled(model.module, lambda: jobs._bare(model))

    def take(self, row: Any, allow_code: bool = False) -> Any:
        return self.constancy, self.before

    def discard(self) -> None:
        pass
