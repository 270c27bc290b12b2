"""Whatever somebody's code does to a model, or however it ends, the next job on that model gets it as it was."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mlx.nn as nn
import mlx_lm.models.llama as llama
import pytest

from harness.engines import Engine
from harness.jobs import aftermath
from harness.jobs import run as running
from harness.jobs.planning import jobs_in
from harness.jobs.run import ModelCache, run
from harness.metrics import function
from harness.models import load_table
from harness.models.fingerprint import fingerprint
from harness.models.loaded import LoadedModel
from harness.vocabulary import Answer, JobResult, Question, Status
from harness.vocabulary.raised import JobInterrupted

ENGINE = """\
import mlx.core as mx
import mlx.nn as nn

done = []


def patch(model, clean, corrupted, component, layers, metric, answers, tokenizer, positions, direction):
    "An engine that does harm."
{body}


patch.harness = {{"units": "percent", "metrics": ["l2"], "components": ["mlp"]}}
"""
HARM = {
    "one weight doubled": "w = model.layers[1].mlp.down_proj; w.weight = w.weight * 2",
    "written in place": "model.layers[0].mlp.down_proj.weight *= 0.5",
    "negated": "model.layers[0].mlp.down_proj.weight = -model.layers[0].mlp.down_proj.weight",
    "an attribute": "model.layers[0].self_attn.scale = 3.0",
    "a container": "model.args.rope_theta = 3.0",
    "a class": "b = model.layers[0]; b.__class__ = type('Block', (type(b),), {'__call__': lambda *a, **k: a[1] * 0})",
    "a call of mlx": "nn.Linear.__call__ = lambda self, x: x @ self.weight.T * 2",
    "a function of mlx_lm": "import mlx_lm.models.llama as m; m.swiglu = lambda gate, x: x",
    "noise": "import mlx_lm.models.llama as m; m.swiglu = lambda gate, x: x + mx.random.normal(x.shape)",
    "the tokenizer": "tokenizer.encode = lambda text, **more: [1, 2]",
}
ENDS = {
    "an exception": "raise ValueError('planted')",
    "SystemExit": "raise SystemExit(0)",
    "skip": "import pytest; pytest.skip('planted')",
    "GeneratorExit": "raise GeneratorExit('planted')",
    "an answer": "return {layer: 100.0 for layer in layers}",
    "no answer": "return None",
    "time-out": "raise TimeoutError('planted')",
}
CASE = """\
models: [small]
engines: {engines}
prompts: {{clean: "word1 word2 word3", corrupted: "word1 word4 word3"}}
sweep: {{components: [mlp]}}
metrics: {metrics}
"""
SMALL = "models:\n  - {id: small, source: synthetic, architecture: llama, vocab: 64, layers: 2}\n"


Jobs = Callable[..., list[JobResult]]


@pytest.fixture
def run_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """Run jobs on one model after another, as a session does; what they import is forgotten at the end."""
    monkeypatch.setattr(llama, "swiglu", llama.swiglu)
    monkeypatch.setattr(nn.Linear, "__call__", nn.Linear.__call__)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "m.yaml").write_text(SMALL, encoding="utf-8")

    def run_all(*jobs: tuple[str, str], more: str = "", **files: str) -> list[JobResult]:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
            sys.modules.pop(name, None)
        function.load.cache_clear()
        importlib.invalidate_caches()
        table, cache, results = load_table([tmp_path / "m.yaml"]), ModelCache(), []
        for number, (engine, metrics) in enumerate(jobs):
            file = tmp_path / f"c{number}.case.yaml"
            file.write_text(CASE.format(engines=f"['{engine}']", metrics=f"['{metrics}']") + more, encoding="utf-8")
            (job,) = jobs_in(file, table, allow_code=True)
            results.append(run(job, cache))
        return results

    yield run_all
    function.load.cache_clear()
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


def engine(body: str, end: str) -> str:
    harm = "".join(f"\n        {line}" for line in body.splitlines())
    return ENGINE.format(body=f"    if not done:\n        done.append(1){harm}\n    {end}")


def numbers(result: JobResult) -> list[object]:
    return [[(cell.layer, cell.recovery) for cell in curve.cells] for curve in result.curves]


def codes(result: JobResult) -> set[str]:
    return {finding.code for finding in result.findings}


PAIRS = [*((harm, end) for harm in HARM for end in ("an exception", "an answer")), *(("negated", end) for end in ENDS)]


@pytest.mark.parametrize(("harm", "end"), dict.fromkeys(PAIRS), ids=str)
def test_a_later_job_gets_the_model_as_it_was(run_jobs: Jobs, harm: str, end: str) -> None:
    (right,) = run_jobs(("native", "l2"))
    earlier, later = run_jobs(("harmful:patch", "l2"), ("native", "l2"), harmful=engine(HARM[harm], ENDS[end]))
    assert "LAW005" in codes(earlier), earlier
    if "of mlx" not in harm and harm != "noise":  # what is put into a package stays there for the whole process
        assert (numbers(later), later.status) == (numbers(right), Status.PASSED)


@pytest.mark.parametrize("end", ENDS)
def test_an_engine_that_does_no_harm_is_told_of_none(run_jobs: Jobs, end: str) -> None:
    (result,) = run_jobs(("harmful:patch", "l2"), harmful=engine("model(mx.array([clean]))", ENDS[end]))
    assert "LAW005" not in codes(result)


@pytest.mark.parametrize("end", ENDS)
def test_a_reference_is_looked_at_as_an_engine_is(run_jobs: Jobs, end: str) -> None:
    harm = engine(HARM["one weight doubled"], ENDS[end])
    earlier, later = run_jobs(("native", "l2"), ("native", "l2"), more="reference: 'harmful:patch'\n", harmful=harm)
    assert "LAW005" in codes(earlier)
    assert "LAW005" not in codes(later)


def test_ctrl_c_in_an_engine_costs_its_model(run_jobs: Jobs) -> None:
    harm = engine(HARM["one weight doubled"], "raise KeyboardInterrupt")
    with pytest.raises(JobInterrupted):
        run_jobs(("harmful:patch", "l2"), harmful=harm)


def test_our_own_patching_is_digested_once_a_model_and_a_strangers_after_every_job(
    run_jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    digested: list[int] = []
    monkeypatch.setattr(aftermath, "fingerprint", lambda module: digested.append(1) or fingerprint(module))
    run_jobs(*[("native", "l2")] * 3)
    assert len(digested) == 1
    run_jobs(*[("harmful:patch", "l2")] * 3, harmful=engine("pass", ENDS["an answer"]))
    assert len(digested) == 4


def test_a_class_that_our_own_taps_left_is_seen_after_any_job(run_jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = running.answer

    def leaving(engine: Engine, model: LoadedModel, question: Question) -> Answer:
        if question.metrics == ("mse",):
            block = model.module.layers[0]
            block.__class__ = type("Left", (type(block),), {})
        return answered(engine, model, question)

    monkeypatch.setattr(running, "answer", leaving)
    first, second, third = run_jobs(("native", "l2"), ("native", "mse"), ("native", "l2"))
    assert [("LAW005" in codes(each)) for each in (first, second, third)] == [False, True, False]


WRITES = {
    "times": "x *= 0.5",
    "an entry": "x[0] = 7.0",
    "the clean row": "clean -= clean",
    "made writable": "x.setflags(write=True); x *= 0.5",
    "its base": "(x if x.base is None else x.base).setflags(write=True); x *= 0.5",
    "an output": "np.multiply(x, 0.5, out=x)",
    "sorted": "x.sort()",
}


@pytest.mark.parametrize("write", WRITES)
def test_a_metric_cannot_write_into_what_other_metrics_read(run_jobs: Jobs, write: str) -> None:
    both = "import numpy as np\n\n\ndef metric(clean, x):\n    {}\n    return abs(x - clean).max()\n"
    (right,) = run_jobs(("native", "mine:metric', 'l2"), mine=both.format("pass"))
    (got,) = run_jobs(("native", "mine:metric', 'l2"), mine=both.format(WRITES[write]))
    assert right.status is Status.PASSED
    if write in ("made writable", "its base"):  # its own copy is what it spoilt
        assert got.curves[1].baseline == right.curves[1].baseline
        assert [c.recovery for c in got.curves[1].cells] == [c.recovery for c in right.curves[1].cells]
    else:
        assert "read-only" in str(got)


def test_an_engine_cannot_write_into_the_question(run_jobs: Jobs) -> None:
    spoil = "clean.clear()\n    corrupted[:] = [0, 0, 0]\n    layers[0] = 99"
    answer = "return {0: 100.0, 1: 100.0}"
    (result,) = run_jobs(("harmful:patch", "l2"), harmful=engine("pass", f"{spoil}\n    {answer}"))
    (right,) = run_jobs(("native", "l2"))
    assert (result.clean, result.corrupted) == (right.clean, right.corrupted)
    assert [cell.layer for cell in result.curves[0].cells] == [0, 1]
