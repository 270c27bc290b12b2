"""Diagnosing logits alone: somebody sent two arrays, and no model.

They come out of somebody's engine, so what is examined is the formula as anybody would write it, in the arrays' own
dtype, against float64.
"""

from __future__ import annotations

import io
import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from operator import index
from pathlib import Path
from typing import IO, Any

import mlx.core as mx
import numpy as np

from harness.diagnosis import environment as environment_step
from harness.diagnosis.engine import metric as metric_step
from harness.diagnosis.engine.asked import EngineRaised, blamed
from harness.diagnosis.outcome.diagnosis import Diagnosis, StepLog
from harness.diagnosis.outcome.nouns import Place, PlacedFinding
from harness.diagnosis.trail.flow import ruled_out
from harness.diagnosis.trail.statistics import element
from harness.engines.definitions import Reported, mistake_of
from harness.engines.guard import guarded_recovery
from harness.engines.legacy import LEGACY
from harness.metrics import summarize
from harness.metrics.layouts import LAYOUTS, dtype_name
from harness.metrics.tolerances import Work, recovery_tolerance
from harness.support.inputs import checked_size
from harness.support.weight_files import BrokenFile, stored_in
from harness.vocabulary import AnswerTokens, metric_named
from harness.vocabulary.errors import UsageError

FORMATS = (".npy", ".npz", ".safetensors")
MOST_BYTES = 4 << 30
"""The largest arrays that are read: 7,000 tokens of 152,000 logits in float32."""


def diagnose_logits(clean: Any, corrupted: Any, metric: str, answers: tuple[Any, Any] | None = None) -> Diagnosis:
    """Take the steps that need no model. Raises UsageError for arrays that are no logits, and for answers that are no
    ids of theirs."""
    log = StepLog()
    found, facts, detectors = environment_step.examine()
    log.add("environment", found, detectors)
    log.skip("logits alone were given", "weights", "shadow", "patched", "comparisons")
    runs = _runs(clean, corrupted)
    tokens = _answers(metric, answers, int(runs["clean"].shape[-1]))
    sound = not log.add("forward", _not_finite(runs), "; ".join(f"{run} {_shown(rows)}" for run, rows in runs.items()))
    _measure(log, metric, runs["clean"][-1], runs["corrupted"][-1], sound, tokens)
    first = runs["clean"]
    about = {"dtype": dtype_name(first), "vocab": first.shape[-1], "metric": metric, "versions": facts}
    return log.finished((), {"model": "logits", **about})


def _shown(rows: mx.array) -> str:
    found = summarize(rows)
    return f"{list(rows.shape)}, {'finite' if found.finite else found.text()}"


def _runs(clean: Any, corrupted: Any) -> dict[str, mx.array]:
    runs = {name: as_logits(given, name) for name, given in (("clean", clean), ("corrupted", corrupted))}
    a, b = runs.values()
    if a.shape[-1] != b.shape[-1] or a.dtype != b.dtype:
        raise UsageError(
            f"clean is {dtype_name(a)} {list(a.shape)}, corrupted {dtype_name(b)} {list(b.shape)}; "
            "both must be [vocab] or [tokens, vocab] of one dtype and one vocabulary"
        )
    return runs


def _answers(metric: str, answers: tuple[Any, Any] | None, vocab: int) -> AnswerTokens | None:
    if answers is None:
        if metric_named(metric).needs_answers:
            raise UsageError(
                f"{metric} reads two answers; give their ids (--answer 711 --wrong 126 --ids), or choose "
                f"{', '.join(sorted(LEGACY.metrics))} or kl_divergence"
            )
        return None
    try:
        answer, wrong = map(index, answers)
    except (TypeError, ValueError) as error:
        raise UsageError(f"answers {answers!r}: logits have no tokenizer; give two token ids") from error
    if not 0 <= min(answer, wrong) <= max(answer, wrong) < vocab:
        raise UsageError(f"answers {answers!r}: the logits have ids 0 to {vocab - 1:,}")
    return AnswerTokens(answer, wrong)


def _measure(
    log: StepLog, metric: str, clean: mx.array, corrupted: mx.array, sound: bool, answers: AnswerTokens | None
) -> None:
    """Note what the last rows make of the metric, and of the recovery."""
    try:
        with blamed(metric):
            measured = metric_step.measured(metric, clean, corrupted, answers)
    except EngineRaised as error:
        raise UsageError(str(error)) from error
    said = measured.said.get("legacy")
    wrong = metric_step.about_the_rows(measured) if sound else []
    reported = Reported(metric, clean, corrupted, said, answers)
    mistake = mistake_of(reported, recovery_tolerance(Work.OTHER_FORMULA, clean.dtype))
    wrong += metric_step.about_the_formula(measured, f"the formula in {measured.dtype}", said, clean, mistake)
    nothing = [each for each in wrong if each.place.step == "recovery"]
    log.add("metric", [each for each in wrong if each not in nothing], measured.summary)
    guarded = _guarded(said) if not sound and said is not None else []
    log.add("recovery", [*nothing, *guarded], f"baseline {measured.true.text('.6g')}")


def as_logits(given: Any, name: str) -> mx.array:
    """Return `[tokens, vocab]` of a float dtype. Raises UsageError for anything else."""
    array = given if isinstance(given, mx.array) else _from_host(given, name)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or not array.size or dtype_name(array) not in LAYOUTS:
        raise UsageError(
            f"{name} is {dtype_name(array)} {list(array.shape)}; [vocab] or [tokens, vocab] of floats is needed"
        )
    return array


def read_logits(file: Path, key: str | None = None) -> Any:
    """Return the array of a .npy, .npz or .safetensors file. Raises UsageError where there is none, or several."""
    if file.suffix not in FORMATS:
        raise UsageError(f"{file}: {file.suffix or 'no ending'} is not a format of arrays; known: {', '.join(FORMATS)}")
    try:
        with warnings.catch_warnings(action="ignore"):  # a header of Python 2, in NumPy's words
            held = _held(file)
    except (OSError, ValueError, RuntimeError, EOFError, MemoryError, SyntaxError, KeyError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    except (BrokenFile, zipfile.BadZipFile, zlib.error, NotImplementedError, tokenize.TokenError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    if key is not None and key in held:
        return held[key]
    if len(held) != 1:
        raise UsageError(f"{file} holds {', '.join(sorted(held)) or 'nothing'}; one array is needed")
    return next(iter(held.values()))


def _held(file: Path) -> dict[str, Any]:
    """Return the arrays of a file by name, read only after what the headers claim was held against its size."""
    size = checked_size(file)
    if file.suffix == ".safetensors":
        stored_in(file)
        loaded: Any = mx.load(str(file))
        return dict(loaded)
    if file.suffix == ".npy":
        with file.open("rb") as stream:
            return {"": _array(stream, size)}
    with zipfile.ZipFile(file) as archive:
        members = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
        if (whole := sum(entry.file_size for entry in members)) > MOST_BYTES:
            raise ValueError(f"its arrays take {whole:,} bytes; at most {MOST_BYTES:,} are read")
        return {entry.filename.removesuffix(".npy"): _member(archive, entry) for entry in members}


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Any:
    with archive.open(entry) as stream:
        return _array(stream, entry.file_size)


def _array(stream: IO[bytes], size: int) -> Any:
    """Return a .npy's array. Raises ValueError where its header claims more or fewer bytes than there are."""
    if size > MOST_BYTES:
        raise ValueError(f"it has {size:,} bytes; at most {MOST_BYTES:,} are read")
    content = io.BytesIO(stream.read(size))
    version = np.lib.format.read_magic(content)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(content)
    claimed, left = math.prod(shape) * dtype.itemsize, len(content.getbuffer()) - content.tell()
    numbers = all(type(n) is int and 0 <= n < 2**31 for n in shape)  # MLX counts in 32 bits
    if dtype.hasobject or not numbers or claimed != left:
        raise ValueError(f"its header says {dtype} {list(shape)}, and {left:,} bytes follow")
    content.seek(0)
    return np.load(content, allow_pickle=False)


def _from_host(given: Any, name: str) -> mx.array:
    values = np.asarray(given)
    if not np.issubdtype(values.dtype, np.floating):
        raise UsageError(
            f"{name} is {values.dtype} {list(values.shape)}; [vocab] or [tokens, vocab] of floats is needed"
        )
    values = values.astype(values.dtype.newbyteorder("="), order="C")
    if values.dtype.itemsize <= 4:
        return mx.array(values)
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    if lost := int((np.isinf(narrow) & np.isfinite(values)).sum()):
        raise UsageError(f"{name} is {values.dtype}, and {lost:,} of its finite numbers are beyond float32")
    return mx.array(narrow)


def _not_finite(runs: dict[str, mx.array]) -> Iterator[PlacedFinding]:
    for run, rows in runs.items():
        found, legal = summarize(rows), ruled_out(rows)
        if found.finite or (legal and found.only_neg_inf and found.neg_inf == len(legal) * rows.shape[0]):
            continue
        token, dimension = element(found.first, rows.shape)
        yield PlacedFinding.of(
            "DIA407",
            f"the {run} logits hold {found.text()}; the first is at token {token}, id {dimension}",
            Place("forward", run, None, None, token, dimension),
            **found.evidence,
        )


def _guarded(said: float) -> Iterator[PlacedFinding]:
    """Yield what the usual guard makes of this baseline."""
    shown = guarded_recovery(said, said)
    if shown == shown and said != said:
        yield PlacedFinding.of(
            "DIA502",
            f"the baseline is {said:g}, and the guard `if baseline > 1e-10 else 0.0` reports {shown:.1f} % for it",
            Place("recovery", "recovery"),
            baseline=str(said),
            reported=shown,
        )
