"""Findings of a diagnosis, one a cause or, where no known cause fits, one a place.

DIA0 environment, DIA1 weights, DIA2 forward, DIA3 patched, DIA4 metric, DIA5 recovery, DIA6 comparisons.
"""

from collections.abc import Mapping

from harness.vocabulary.findings.kind import (
    CASE,
    ENGINE,
    ENVIRONMENT,
    ERROR,
    MODEL,
    WARNING,
    FindingKind,
    Severity,
    Subject,
)

_WIDER = "run it in bfloat16 or float32"


def _kind(code: str, step: str, severity: Severity, subject: Subject, title: str, hint: str) -> FindingKind:
    return FindingKind(code, f"diagnosis/{step}", severity, subject, title, hint)


KINDS = (
    _kind("DIA001", "environment", ERROR, ENVIRONMENT, "the detector itself is not safe on this build",
          "this build drops NaN where it reduces; upgrade mlx before you believe any `isnan`, `max` or `sum` of it"),
    _kind("DIA002", "environment", WARNING, ENVIRONMENT, "a version with a known fault is installed", "upgrade mlx"),
    _kind("DIA101", "weights", ERROR, MODEL, "a weight is not finite",
          "the stored weights are broken: download or convert the tensor again"),
    _kind("DIA102", "weights", ERROR, MODEL, "a quantisation scale is zero or not finite",
          "quantise the tensor again from the original weights, which must be finite"),
    _kind("DIA103", "weights", ERROR, MODEL, "quantising swallowed a weight that is not finite",
          "the original weights are broken; repair them and quantise again, for the quantised ones only look sound"),
    _kind("DIA104", "weights", ERROR, MODEL, "the run's dtype cannot hold a weight",
          "the weights were trained in a wider range: run in bfloat16 or float32"),
    _kind("DIA105", "weights", ERROR, MODEL, "a weight is all zero",
          "a layer was not written or not loaded: download or convert the file again"),
    _kind("DIA106", "weights", ERROR, MODEL, "a parameter is missing, never loaded, or not the model's",
          "the files and the architecture do not belong together, or a file is incomplete: download them again"),
    _kind("DIA107", "weights", ERROR, MODEL, "a weight file is truncated or unreadable", "download the file again"),
    _kind("DIA108", "weights", WARNING, MODEL, "weights become zero in the run's dtype", _WIDER),
    _kind("DIA109", "weights", ERROR, MODEL, "a weight looks as if it was never loaded",
          "it has the values MLX starts a layer with, where the same weight of other layers has not: load it"),
    _kind("DIA201", "forward", ERROR, MODEL, "a non-finite value appears in a module",
          "its inputs are finite and its output is not: " + _WIDER + ", or look into this module"),
    _kind("DIA202", "forward", ERROR, MODEL, "non-finite values appear at the embedding",
          "everything after it follows from these elements: look at the embedding's rows and what is added to them"),
    _kind("DIA203", "forward", ERROR, MODEL, "the residual stream leaves the dtype's range",
          "no module is wrong, their sum is: " + _WIDER),
    _kind("DIA204", "forward", ERROR, MODEL, "a product in an MLP overflows", _WIDER + ", at least this MLP"),
    _kind("DIA205", "forward", ERROR, MODEL, "an attention row is fully masked",
          "a query that may see nothing has no softmax: give the row one key, or leave the row out"),
    _kind("DIA206", "forward", ERROR, MODEL, "a non-finite value in a masked slot leaks",
          "0 x NaN is NaN, so a mask does not hide it: put zeros into masked slots"),
    _kind("DIA207", "forward", ERROR, MODEL, "an epsilon is zero in the dtype it is added in",
          "add it in float32, or choose one that the dtype can hold (float16: 6e-8 at least)"),
    _kind("DIA208", "forward", ERROR, MODEL, "a difference of nearly equal numbers loses most digits",
          "subtract before squaring, or compute it in float32"),
    _kind("DIA209", "forward", ERROR, ENGINE, "the traced run differs from the bare run",
          "the engine's tracing changes the forward pass: its numbers are about another model"),
    _kind("DIA210", "forward", ERROR, MODEL, "a non-finite value disappears again",
          "something hides it (a cap, a clip, `nan_to_num`, an integer): the output is finite and still wrong"),
    _kind("DIA211", "forward", ERROR, MODEL, "a quantised product is not finite",
          "look at the scales and biases of this tensor, and quantise it again"),
    _kind("DIA212", "forward", ERROR, MODEL, "a softmax or its scores are not finite",
          _WIDER + ", at least this attention"),
    _kind("DIA301", "patched", ERROR, CASE, "the patch did not fire",
          "nothing called what was patched, so every recovery is 0 %: choose a component that the model calls"),
    _kind("DIA302", "patched", ERROR, ENGINE, "the patch changes the dtype of the run",
          "the saved activation was widened: cast it back, or the patched run is another model's"),
    _kind("DIA303", "patched", ERROR, MODEL, "only the patched run is not finite",
          "the patch pairs values that no real run pairs: " + _WIDER),
    _kind("DIA304", "patched", ERROR, CASE, "the prompts differ in token length",
          "positions do not correspond: choose prompts of equal token length"),
    _kind("DIA305", "patched", ERROR, ENGINE, "the engine fails", "its message is the evidence"),
    _kind("DIA401", "metric", ERROR, ENGINE, "the metric is not finite, though the logits are",
          "the metric overflows in the logits' own dtype: widen before subtracting and before reducing"),
    _kind("DIA402", "metric", ERROR, ENGINE, "a divergence multiplies 0 by log 0",
          "a probability of zero contributes nothing: leave those ids out of the sum"),
    _kind("DIA403", "metric", ERROR, ENGINE, "the metric subtracts -inf from -inf",
          "ids that both runs rule out are legal: measure over the other ids"),
    _kind("DIA404", "metric", ERROR, ENGINE, "the metric differs from float64 on the same logits",
          "widen before subtracting and before reducing, and avoid 1 - cos"),
    _kind("DIA405", "metric", ERROR, CASE, "the change is a uniform shift, which softmax ignores",
          "nothing has to be recovered: choose a metric on probabilities, or other prompts"),
    _kind("DIA406", "metric", WARNING, ENGINE, "digits drown where the difference is small against the logits",
          "1 - cos cancels: take the distance of the unit vectors instead"),
    _kind("DIA407", "metric", ERROR, MODEL, "logits are not finite",
          "the fault is in the run that made them: diagnose it with the model at hand"),
    _kind("DIA501", "recovery", ERROR, CASE, "clean and corrupted give the same value",
          "no recovery is defined, which is not 0 %: choose prompts that tell the runs apart"),
    _kind("DIA502", "recovery", ERROR, ENGINE, "a guard turns an undefined recovery into a number",
          "report the state instead: undefined is never a number"),
    _kind("DIA503", "recovery", WARNING, MODEL, "a recovery is finite and not to be trusted",
          "its error bar is wide: " + _WIDER),
    _kind("DIA504", "recovery", ERROR, CASE, "clean and corrupted are no farther apart than rounding puts them",
          "a recovery would be rounding over rounding: choose prompts or a metric that tell the two runs apart"),
    _kind("DIA601", "comparisons", ERROR, ENVIRONMENT, "it fails from a length on",
          "a kernel is wrong at some sizes; report it"),
    _kind("DIA602", "comparisons", ERROR, ENVIRONMENT, "compiled and eager differ",
          "run without `mx.compile`, and report it"),
    _kind("DIA603", "comparisons", ERROR, ENVIRONMENT, "two devices differ",
          "one of the two kernels is wrong; report it"),
    _kind("DIA604", "comparisons", ERROR, ENVIRONMENT, "the same run differs from time to time",
          "a kernel reads what another one writes, or memory nobody wrote; report it"),
)  # fmt: skip

FAULT_OF: Mapping[str, str] = {
    "DIA001": "F19", "DIA102": "F14", "DIA103": "F15", "DIA104": "F11", "DIA105": "F16", "DIA106": "F16",
    "DIA107": "F16", "DIA108": "F11", "DIA109": "F16", "DIA202": "F10", "DIA203": "F08", "DIA204": "F09",
    "DIA205": "F12", "DIA206": "F13", "DIA207": "F06", "DIA208": "F07", "DIA209": "F22", "DIA211": "F14",
    "DIA301": "F20", "DIA302": "F20", "DIA304": "F21", "DIA401": "F01", "DIA402": "F04", "DIA403": "F05",
    "DIA404": "F07", "DIA405": "F23", "DIA406": "F07", "DIA501": "F02", "DIA502": "F03", "DIA601": "F17",
    "DIA602": "F18",
}  # fmt: skip
"""The fault of the zoo (`harness zoo list`) that a code stands for. The other codes name a place, or another cause."""
