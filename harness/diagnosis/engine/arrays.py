"""Diagnosing logits alone: somebody sent two arrays, and no model.

They come out of somebody's engine, so what is examined is the formula as anybody would write it, in the arrays' own
dtype, against float64.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from harness.diagnosis import environment as environment_rung
from harness.diagnosis.engine import metric as metric_rung
from harness.diagnosis.outcome.nouns import PROVEN, Diagnosis, Observation, Place
from harness.diagnosis.trail.flow import ruled_out
from harness.diagnosis.trail.statistics import counts, dtype_name, element, layout_of
from harness.engines.guard import guarded_recovery
from harness.engines.legacy import LEGACY
from harness.vocabulary import METRICS
from harness.vocabulary.errors import UsageError

if TYPE_CHECKING:
    from harness.diagnosis.ladder import DiagnosisRequest

FORMATS = (".npy", ".npz", ".safetensors")


def climb_arrays(request: DiagnosisRequest) -> Diagnosis:
    """Climb the rungs that need no model. Raises UsageError for arrays that are no logits."""
    from harness.diagnosis.ladder import StepReport

    report = StepReport()
    found, facts = environment_rung.examine()
    report.add("environment", found, facts)
    for rung in ("weights", "shadow", "patched", "comparisons"):
        report.skip(rung, "logits alone were given")
    clean, corrupted = (
        as_logits(each, name) for each, name in zip(request.logits, ("clean", "corrupted"), strict=True)
    )
    if clean.shape[-1] != corrupted.shape[-1] or clean.dtype != corrupted.dtype:
        raise UsageError(
            f"clean is {dtype_name(clean)} {list(clean.shape)}, corrupted {dtype_name(corrupted)} "
            f"{list(corrupted.shape)}; both must be [vocab] or [tokens, vocab] of one dtype and one vocabulary"
        )
    metric = request.metric or "l2"
    if METRICS[metric].needs_answers:
        raise UsageError(
            f"{metric} needs answers; for logits alone choose {', '.join(sorted(LEGACY.metrics))} or kl_divergence"
        )
    about = {
        "model": "logits",
        "dtype": dtype_name(clean),
        "vocab": clean.shape[-1],
        "metric": metric,
        "versions": facts,
    }
    bad = [seen for name, rows in (("clean", clean), ("corrupted", corrupted)) for seen in _not_finite(name, rows)]
    report.add("forward", bad, f"clean {list(clean.shape)}, corrupted {list(corrupted.shape)}")
    measured = metric_rung.measured(metric, clean[-1], corrupted[-1])
    said = measured.said.get("legacy")
    wrong = metric_rung.about_the_rows(measured) if not bad else []
    wrong += metric_rung.about_the_formula(measured, f"the formula in {measured.dtype}", said, clean[-1])
    nothing = [each for each in wrong if each.place.rung == "recovery"]
    report.add("metric", [each for each in wrong if each not in nothing], measured.summary)
    guarded = list(_guarded(said)) if bad and said is not None else []
    report.add("recovery", [*nothing, *guarded], f"baseline {measured.true.text('.6g')}")
    return Diagnosis(tuple(report.findings), report.finished(), (), about)


def as_logits(given: Any, name: str) -> mx.array:
    """Return `[tokens, vocab]` of a float dtype. Raises UsageError for anything else."""
    array = given if isinstance(given, mx.array) else _from_host(given, name)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or not array.size or layout_of(array) is None:
        raise UsageError(
            f"{name} is {dtype_name(array)} {list(array.shape)}; [vocab] or [tokens, vocab] of floats is needed"
        )
    return array


def read_logits(file: Path, key: str | None = None) -> Any:
    """Return the array of a .npy, .npz or .safetensors file. Raises UsageError where there is none, or several."""
    if file.suffix not in FORMATS:
        raise UsageError(f"{file}: {file.suffix or 'no ending'} is not a format of arrays; known: {', '.join(FORMATS)}")
    try:
        loaded: Any = mx.load(str(file)) if file.suffix == ".safetensors" else np.load(file, allow_pickle=False)
        held = {"": loaded} if file.suffix == ".npy" else {name: loaded[name] for name in loaded}
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    if key is not None and key in held:
        return held[key]
    if len(held) != 1:
        raise UsageError(f"{file} holds {', '.join(sorted(held)) or 'nothing'}; one array is needed")
    return next(iter(held.values()))


def _from_host(given: Any, name: str) -> mx.array:
    values = np.asarray(given)
    if not np.issubdtype(values.dtype, np.floating):
        raise UsageError(
            f"{name} is {values.dtype} {list(values.shape)}; [vocab] or [tokens, vocab] of floats is needed"
        )
    if values.dtype.itemsize <= 4:
        return mx.array(values)
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    if lost := int((np.isinf(narrow) & np.isfinite(values)).sum()):
        raise UsageError(f"{name} is {values.dtype}, and {lost:,} of its finite numbers are beyond float32")
    return mx.array(narrow)


def _not_finite(run: str, rows: mx.array) -> list[Observation]:
    found = counts(rows)
    legal = ruled_out(rows)
    if found.finite or (legal and found.only_neg_inf and found.neg_inf == len(legal) * rows.shape[0]):
        return []
    token, dimension = element(found.first)
    return [
        Observation.of(
            "DIA407",
            f"the {run} logits hold {found.text()}; the first is at token {token}, id {dimension}",
            Place("forward", run, None, None, token, dimension),
            PROVEN,
            nan=found.nan,
            pos_inf=found.pos_inf,
            neg_inf=found.neg_inf,
        )
    ]


def _guarded(said: float) -> list[Observation]:
    """What the usual guard makes of this baseline."""
    shown = guarded_recovery(said, said)
    if shown != shown or said == said:
        return []
    return [
        Observation.of(
            "DIA502",
            f"the baseline is {said:g}, and the guard `if baseline > 1e-10 else 0.0` reports {shown:.1f} % for it",
            Place("recovery", "recovery"),
            PROVEN,
            baseline=str(said),
            reported=shown,
        )
    ]
