"""The table of planted faults: every finding code, a fault that must raise it, and what the fault raises besides."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import faulty_models as faulty
import numpy as np
from bench import codes, dial, run
from emulation.accelerator import emulated
from faulty_models import loaded
from project import HERE
from toy_tokenizers import VOCAB, toy

import harness.environment.facts
from harness import models
from harness.checks import reference
from harness.engines import ENGINES, answer, engine_named
from harness.engines.formula import Engine, Formula
from harness.intercept import capture
from harness.intercept import replace as replace_runs
from harness.laws import LAWS
from harness.laws.conformance.matrix import row_cells
from harness.laws.conformance.rows import architecture
from harness.metrics import host_row, measure
from harness.models.sources import miniatures
from harness.models.spec import SyntheticRow
from harness.patching.patch import Patch
from harness.patching.sweep import Plan
from harness.vocabulary import Direction
from harness.vocabulary.errors import TapError

sys.path.insert(0, str(Path(__file__).parents[1] / "laws" / "conformance"))

L2 = {"metrics": ("l2",)}
SAME = {"prompts": {"clean": (0,), "corrupted": (0,)}}


@dataclass(frozen=True)
class Fault:
    """`plant` puts the fault in and returns every code that was found."""

    code: str
    name: str
    plant: Callable[[Any], set[str]]
    besides: frozenset[str] = field(default_factory=frozenset)


def fault(code: str, name: str, plant: Callable[[Any], set[str]], *besides: str) -> Fault:
    return Fault(code, name, plant, frozenset(besides))


def native(model: Any, **written: Any) -> Callable[[Any], set[str]]:
    return lambda bench: codes(run(model(), **written))


def distance(metric: str, clean: Any, x: Any) -> float:
    """The true distance, through the harness's own metric."""
    return measure(metric, host_row(clean), host_row(x)).value


def percent(baseline: float, patched: float) -> float:
    return 100 * (baseline - patched) / baseline


def formula(distance: Any = distance, recovery: Any = percent, model: Any = dial, **written: Any) -> Any:
    """An engine that is right but for the planted part."""

    def plant(bench: Any) -> set[str]:
        bench.monkeypatch.setitem(ENGINES, "planted", Engine("planted", "", Formula(distance, recovery)))
        return codes(run(model(), "planted", **{**L2, **written}))

    return plant


def mse_that_recovers_like_l2(metric: str, clean: Any, x: Any) -> float:
    """The right mse for the corrupted run of the dial, and a straight line from there to zero."""
    l2, baseline = distance("l2", clean, x), np.linalg.norm(np.diff(dial().known.table[:2], axis=0))
    return l2 if metric == "l2" else l2 * baseline / 2048


def raising(metric: str, clean: Any, x: Any) -> float:
    raise RuntimeError("planted")


def failing_device(metric: str, clean: Any, x: Any) -> float:
    raise RuntimeError("[METAL] Command buffer execution failed: Insufficient Memory")


def references_kept(bench: Any) -> set[str]:
    """A recording that is the model's own array, and no copy of it."""
    bench.monkeypatch.setattr(capture, "_unshared", lambda value: value)
    return codes(run(sound()))


def patches_that_pile_up(bench: Any) -> set[str]:
    """Each patched run starts where the one before ended."""

    def pile(plan: Plan, patch: Patch, recording: Any) -> Any:
        so_far = [each.point for each in plan.patches[: plan.patches.index(patch) + 1]]
        return replace_runs(plan.model, plan.target, so_far, recording, "all")

    bench.monkeypatch.setattr(Plan, "run", pile)
    return codes(run(sound(), sweep={"components": ("mlp",), "strategy": "stepwise"}))


def sound() -> Any:
    return loaded(faulty.Sound())


def known_wrong() -> Any:
    """A dial whose closed form is that of other weights."""
    model = dial()
    model.known = replace(model.known, weights=(0.25, 0.5, 0.5, 1.0))
    return model


def measuring_reference(bench: Any) -> set[str]:
    too_high = Engine("planted", "", Formula(distance, lambda *two: percent(*two) + 1))
    bench.monkeypatch.setitem(ENGINES, "planted", too_high)
    return codes(run(sound(), reference="planted", **L2))


def noising_reference(bench: Any) -> set[str]:
    def other_way(engine: Any, model: Any, question: Any) -> Any:
        return answer(engine, model, replace(question, sweep=replace(question.sweep, direction=Direction.NOISING)))

    bench.monkeypatch.setattr(reference, "answer", other_way)
    bench.monkeypatch.setitem(ENGINES, "planted", Engine("planted", ""))
    return codes(run(sound(), reference="planted", **L2))


def refusing_reference(bench: Any) -> set[str]:
    def refused(*_: Any) -> Any:
        raise TapError("planted")

    bench.monkeypatch.setattr(reference, "answer", refused)
    return codes(run(sound(), "published", reference="native", **L2))


def read_by(tokenizer: str, clean: Any, corrupted: Any) -> Callable[[Any], set[str]]:
    """A small model whose prompts are read by a toy tokenizer."""

    def plant(bench: Any) -> set[str]:
        row = SyntheticRow(id="l", source="synthetic", architecture="llama", vocab=VOCAB, layers=2, dtype="float32")
        model = models.load(row)
        model.tokenizer = toy(tokenizer)
        return codes(run(model, **L2, prompts={"clean": clean, "corrupted": corrupted}))

    return plant


# -- snapshots: through pytest and syrupy, as a user has them ----------------------------------------------------------

CASE = """\
models: [tiny]
prompts: {clean: [0], corrupted: [1]}
sweep: {components: [mlp]}
metrics: [l2]
"""
TABLE = """\
models:
  - {id: tiny, source: groundtruth, kind: dial, vocab: 64, weights: [0.5, 0.25], logits: %s}
"""


def pytest_codes(bench: Any, *options: str, logits: str = "plain", case: str = CASE) -> set[str]:
    """Run a case file through pytest in this process, and return the codes of its one job."""
    folder = bench.pytester.path
    (folder / "models.yaml").write_text(TABLE % logits)
    (folder / "tiny.case.yaml").write_text(case)
    for name in ("CI", "PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        bench.monkeypatch.delenv(name, raising=False)
    bench.pytester.inline_run(
        "-pno:cacheprovider", "--harness-models=models.yaml", "--harness-json=result.json", *options, "tiny.case.yaml"
    )
    (job,) = json.loads((folder / "result.json").read_text())["jobs"]
    assert job["status"] in ("passed", "failed"), job["reason"]
    return {finding["code"] for finding in job["findings"]}


def without_memory(bench: Any) -> set[str]:
    with emulated("memory:20"):
        return codes(run(miniatures.load("llama"), **SIX))


def past_its_limit(bench: Any) -> set[str]:
    assert pytest_codes(bench, "-n1", "--harness-job-timeout=600", case=CASE + "checks: [finiteness]\n") == set()
    return pytest_codes(bench, "-n1", "--harness-job-timeout=0.001")


def stored(bench: Any) -> Any:
    (file,) = bench.pytester.path.glob("snapshots/tiny/native@tiny.*.json")
    return file


def snapshot_moved(bench: Any) -> set[str]:
    assert pytest_codes(bench, "--snapshot-update") == set()
    assert pytest_codes(bench) == set()
    document = json.loads(stored(bench).read_text())
    document["curves"][0]["recoveries"][0]["value"] += 0.1
    stored(bench).write_text(json.dumps(document))
    return pytest_codes(bench)


def snapshot_of_another_backend(bench: Any) -> set[str]:
    pytest_codes(bench, "--snapshot-update")
    stored(bench).rename(stored(bench).with_name(f"native@tiny.{HERE}.json"))
    here = replace(harness.environment.facts.environment(), backend="elsewhere")
    bench.monkeypatch.setattr(harness.environment.facts, "environment", lambda: here)
    found = pytest_codes(bench)
    assert [file.name for file in bench.pytester.path.glob("results/**/*.json")] == ["native@tiny.elsewhere.json"]
    return found


def snapshot_of_nan(bench: Any) -> set[str]:
    lenient = CASE + "expect: {may_find: [FIN002, FIN004]}\n"
    found = pytest_codes(bench, "--snapshot-update", logits="nan", case=lenient)
    assert not list(bench.pytester.path.glob("snapshots/**/*.json"))
    return found


def snapshot_that_cannot_be_written(bench: Any) -> set[str]:
    (bench.pytester.path / "snapshots").write_text("a file where the folder should be")
    return pytest_codes(bench, "--snapshot-update")


# -- engines of other people, from the zoo of tests/conformance -------------------------------------------------------

SIX = {"prompts": {"clean": (3, 7, 11, 5), "corrupted": (3, 8, 11, 6)}, "metrics": ("l2",)}


def wide(name: str, **written: Any) -> Callable[[Any], set[str]]:
    """Run a job through an engine that declares everything, on the same model."""
    return lambda bench: codes(run(miniatures.load("llama"), f"wide:{name}", **{**SIX, **written}))


def engine(name: str, **written: Any) -> Callable[[Any], set[str]]:
    """Run a job through a defective engine, on a model with attention and four layers."""
    return lambda bench: codes(run(miniatures.load("llama"), f"defects:{name}", **{**SIX, **written}))


def estimate_of_attention(bench: Any) -> set[str]:
    asked = {**SIX, "metrics": ("l2",), "reference": "native", "sweep": {"components": ("self_attn",)}}
    return codes(run(miniatures.load("llama"), "attribution", **asked))


def broken(law: str, name: str, zoo: str = "defects") -> Callable[[Any], set[str]]:
    """Hold a defective engine of a zoo to one law."""
    return lambda bench: {
        LAWS[cell.law].code
        for cell in row_cells(engine_named(f"{zoo}:{name}", True), architecture("llama"), [LAWS[law]])
        if cell.status == "fail"
    }


FAULTS = (
    fault("FIN001", "a NaN in the clean logits", native(lambda: dial(logits="nan"), **L2,
          prompts={"clean": (1,), "corrupted": (0,)}), "FIN004"),
    fault("FIN002", "a NaN in the corrupted logits", native(lambda: dial(logits="nan"), **L2), "FIN004"),
    fault("FIN002", "an inf in the corrupted logits", native(lambda: dial(logits="inf"), **L2), "FIN004"),
    fault("FIN003", "a patch that overflows float16", native(lambda: loaded(faulty.Overflowing()), **L2), "FIN005",
          "HED001"),
    fault("FIN004", "a baseline of inf from finite logits", formula(lambda *_: math.inf, lambda *_: 0.0), "ORC001",
          "ORC002", "KNO001"),
    fault("FIN005", "a recovery of NaN from finite logits", formula(recovery=lambda *_: math.nan), "ORC002", "KNO001"),
    fault("BAS001", "the same prompt twice", native(dial, **SAME)),
    fault("BAS001", "a metric blind to the difference", native(sound, metrics=("logit_diff",),
          prompts={"clean": (0,), "corrupted": (0,), "answer": 0, "wrong": 1})),
    fault("BAS002", "two tokens that rounding alone tells apart", native(lambda: loaded(faulty.Twins()), **L2)),
    fault("BAS002", "answers that rounding alone tells apart", native(lambda: loaded(faulty.Twins()),
          metrics=("logit_diff",), prompts={"clean": (0,), "corrupted": (1,), "answer": 0, "wrong": 1})),
    fault("BAS003", "two tokens that rounding nearly tells apart", native(lambda: loaded(faulty.Cousins()), **L2)),
    fault("BAS004", "two prompts in each other's place", native(sound, metrics=("logit_diff",),
          prompts={"clean": (0,), "corrupted": (1,), "answer": 1, "wrong": 0})),
    fault("BAS004", "an answer that the clean run likes less than the wrong one", native(sound,
          metrics=("logit_diff",), prompts={"clean": (0,), "corrupted": (1,), "answer": 0, "wrong": 1})),
    fault("ALN001", "prompts of two lengths", native(dial, prompts={"clean": (0,), "corrupted": (1, 2)})),
    fault("ANS001", "two runs that prefer one token", native(dial, metrics=("logit_diff",),
          prompts={"clean": (0,), "corrupted": (8,)})),
    fault("TOK001", "a text that begins with BOS", read_by("byte-level with BOS", "<s>It is 5", "<s>It is 6")),
    fault("TOK002", "a tokenizer that ends with EOS", read_by("metaspace with EOS", "It is 5", "It is 6")),
    fault("TOK003", "a prompt filled up in front", read_by("byte-level with BOS", (0, 0, 1, 9), (0, 8, 1, 9))),
    fault("ORC001", "a distance twice too long", formula(lambda *about: 2 * distance(*about))),
    fault("ORC002", "recoveries one point too high", formula(recovery=lambda *two: percent(*two) + 1, model=sound)),
    fault("ORC003", "a guard that answers 0 % to a zero baseline",
          formula(recovery=lambda *two: 0.0, model=sound, **SAME), "BAS001"),
    fault("ORC003", "a baseline of 1 made of NaN",
          formula(lambda *_: 1.0, lambda *_: math.nan, lambda: dial(logits="nan"), checks=("oracle",))),
    fault("AGR001", "an mse that recovers like an l2", formula(mse_that_recovers_like_l2, metrics=("l2", "mse")),
          "ORC002", "KNO001"),
    fault("AGR002", "an mse twice too large", formula(lambda m, *two: distance(m, *two) * (1 + (m == "mse")),
          metrics=("l2", "mse")), "ORC001"),
    fault("KNO001", "a closed form that is not reached", native(known_wrong, **L2)),
    fault("KNO001", "a baseline stated in the case", native(dial, **L2,
          expect={"baselines": ({"metric": "l2", "value": 1.0, "within": 0.5},)})),
    fault("KNO001", "a recovery stated in the case", native(dial, **L2, expect={"recoveries": (
          {"metric": "l2", "component": "mlp", "layer": -1, "value": 99.0, "within": 0.5},)})),
    fault("KNO001", "a value stated for a layer that does not exist", native(dial, **L2, expect={"recoveries": (
          {"metric": "l2", "component": "mlp", "layer": 6, "value": 75.0, "within": 0.5},)})),
    fault("LAW001", "a module that knows its class", native(lambda: loaded(faulty.ClassConscious()))),
    fault("LAW002", "a block that notices an exchange", native(lambda: loaded(faulty.Suspicious()))),
    fault("LAW003", "state around the residual", native(lambda: loaded(faulty.Shortcut()))),
    fault("LAW004", "an mlp that is never called", native(lambda: loaded(faulty.Bypassing()))),
    fault("LAW005", "a parameter that a forward changes", native(lambda: loaded(faulty.Counting()))),
    fault("MOD001", "dropout in training mode", native(lambda: loaded(faulty.Dropping()), **L2)),
    fault("MOD001", "a counter that reaches the output", native(lambda: loaded(faulty.LouderEachTime()), **L2)),
    fault("MOD001", "a cache keyed by the length", native(lambda: loaded(faulty.KeyedByLength()), **L2)),
    fault("MOD002", "a last digit that nothing explains", native(lambda: loaded(faulty.Flaky()), **L2)),
    fault("LAW006", "a float16 sum that holds these logits and no larger ones",
          lambda bench: codes(run(dial(dtype="float16", vocab=256), "legacy", **L2))),
    fault("LAW007", "patches that pile up", patches_that_pile_up),
    fault("LAW008", "a recording that is the model's own array", references_kept),
    fault("HED001", "an l2 of 180 in float16", native(lambda: dial(dtype="float16", scale=4.0), **L2)),
    fault("HED001", "logits whose cosine needs a norm of 360 in float16",
          native(lambda: dial(dtype="float16"), metrics=("cosine",))),
    fault("SHF001", "two prompts that differ by a shift", native(lambda: loaded(faulty.Shifting()), **L2)),
    fault("PRC001", "equal effects, put in an order by rounding",
          native(lambda: loaded(faulty.Offset()), **L2, precision=True)),
    fault("MET001", "a layer that decides and a layer that moves everything else",
          native(lambda: loaded(faulty.TwoMinded()), metrics=("l2", "logit_diff"),
                 prompts={"clean": (0,), "corrupted": (1,), "answer": 0, "wrong": 1}), "BAS004"),
    fault("STR001", "blocks that run backwards", native(lambda: loaded(faulty.Backwards()), **L2,
          sweep={"components": ("mlp",), "strategy": "one-pass"})),
    fault("LAW006", "an epsilon in a distance", broken("scale", "constant_in_metric")),
    fault("LAW007", "patches that stay in for the next layer", broken("order", "leaking")),
    fault("LAW009", "an input for an output", broken("nested", "own_idea_of_names")),
    fault("LAW010", "a counter that goes into the number", broken("repetition", "drifting")),
    fault("LAW011", "half of the vocabulary", broken("vocabulary", "first_tokens_only")),
    fault("LAW012", "prompts aligned at their ends", broken("lengths", "end_aligned")),
    fault("LAW013", "unknown names fall back", broken("names", "accepts_unknown_names")),
    fault("LAW014", "a tap undone on success only", broken("after-error", "untidy_on_error")),
    fault("LAW015", "a tap undone after Exceptions only", broken("after-ctrl-c", "untidy_on_interrupt")),
    fault("LAW016", "the next layer's answer", broken("declared", "wrong_layer")),
    fault("LAW017", "a module put back at the end of its block", engine("reorders")),
    fault("LAW018", "the token before the last for the last", broken("places", "own_off_at_last", "wide")),
    fault("LAW019", "the next layer's gradient", broken("first-order", "next_layer", "estimating")),
    fault("ATR001", "an interception that rounds", engine("noisy_trace")),
    fault("ATR002", "a hook that never fires", engine("hook_never_fires")),
    fault("ATR002", "the layer after the one asked for", engine("wrong_layer")),
    fault("ATR002", "a hook that fires twice", engine("hook_fires_twice")),
    fault("ATR002", "the last position instead of all", engine("last_position_only")),
    fault("ATR003", "a token before every prompt", engine("other_tokens"), "ATR006"),
    fault("ATR004", "a layer left out", engine("missing_layer"), "LAW007"),
    fault("ATR005", "a printed warning", engine("warning")),
    fault("ATR006", "runs of the model that cannot be seen", engine("unseen")),
    fault("ATR007", "a baseline that is the gap of the scores", wide("gap_baseline", metrics=("logit_diff",))),
    fault("ATR008", "a declared metric that is refused", wide("refuses_a_metric", metrics=("l2", "kl_divergence"))),
    fault("ORC002", "fractions declared as percent", engine("fraction")),
    fault("ORC001", "half of the vocabulary, by a foreign engine", engine("first_tokens_only"), "ORC002"),
    fault("ORC003", "a foreign guard that answers 0 %", engine("guarded_zero",
          prompts={"clean": (3, 7), "corrupted": (3, 7)}), "BAS001"),
    fault("LAW005", "a wrapper left around a block", engine("leaves_wrappers")),
    fault("LAW005", "a parameter left in the model", engine("changes_parameter")),
    fault("ENG001", "a foreign engine that raises", engine("raising")),
    fault("ENG003", "a device that fails while an engine is asked", formula(failing_device)),
    fault("ENG002", "a job of a millisecond at most", past_its_limit),
    fault("ENG003", "no memory left for the checks", without_memory),
    fault("SNP001", "a stored value moved by 0.1 points", snapshot_moved),
    fault("SNP002", "no snapshot stored", pytest_codes),
    fault("SNP003", "a snapshot of another backend only", snapshot_of_another_backend),
    fault("SNP004", "a NaN baseline to be stored", snapshot_of_nan, "FIN002", "FIN004"),
    fault("SNP005", "a file where the folder should be", snapshot_that_cannot_be_written),
    fault("EXP001", "a fault that is no longer there", native(dial, expect={"findings": ("ORC001",)})),
    fault("EXP002", "a baseline of NaN where all must be finite", native(lambda: dial(logits="nan"), **L2,
          expect={"finite": True}, checks=("agreement",))),
    fault("EXP002", "a zero baseline where all must be finite", native(dial, **SAME, expect={"finite": True}),
          "BAS001"),
    fault("EXP003", "a baseline above its range", native(dial, **L2, expect={"baseline_range": (
          {"metric": "l2", "at_least": 1.0, "at_most": 2.0},)})),
    fault("EXP004", "two layers that are not the best", native(dial, **L2, expect={"top_layers": (
          {"layers": (3, 1)},)})),
    fault("EXP004", "a layer that is not among three", native(dial, **L2, expect={"top_layers": (
          {"layers": (0,), "among": 3},)})),
    fault("EXP005", "a recovery of 25 % where 30 % is asked", native(dial, **L2, expect={"minimum_recovery": (
          {"layer": 0, "at_least": 30.0},)})),
    fault("EXP006", "two layers in the other order", native(dial, **L2, expect={"rank_order": (
          {"layers": (1, 2)},)})),
    fault("XFL001", "a sound job that is said to fail", native(dial, xfail="planted")),
    fault("REF001", "a reference that patches the other way", noising_reference),
    fault("REF002", "a reference one point higher", measuring_reference),
    fault("REF003", "an estimate of attention by a distance", estimate_of_attention),
    fault("ENG001", "a reference that cannot answer", refusing_reference),
    fault("ENG001", "an engine that raises", formula(raising)),
)  # fmt: skip
