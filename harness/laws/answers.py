"""Laws about answers: whoever the engine is, they need neither its insides nor an oracle."""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.laws.compared import Compared
from harness.laws.situation import Situation
from harness.metrics.tolerances import Work, work_between
from harness.vocabulary import Answer, Reading, Site, State
from harness.vocabulary.errors import DoesNotApply

HOMOGENEOUS = ("l2", "mse", "cosine", "logit_diff")
"""Metrics whose recoveries do not depend on the unit of the logits. KL and log probabilities do: softmax has a unit."""

_LARGEST: Mapping[str, float] = {"float32": 2.0**127, "float16": 2.0**15, "bfloat16": 2.0**127}


def scaled_logits_change_no_recovery(situation: Situation) -> str | None:
    """Logits times a power of two, which rounds nothing, give the same recoveries."""
    metrics = tuple(metric for metric in situation.question.metrics if metric in HOMOGENEOUS)
    needs_whole_runs(situation)
    exponent = _exponent(situation.sampled)
    if not metrics:
        raise DoesNotApply("recoveries under these metrics depend on the unit of the logits")
    if exponent is None:
        raise DoesNotApply("the logits have no size that can be scaled")
    scaled = situation.scaled(2.0**exponent, metrics)
    plain = {key: value for key, value in recoveries(situation.sampled).items() if key[1] in metrics}
    what = f"logits x 2^{exponent}"
    work = work_between(situation.sampled.strategy, scaled.strategy)
    return answers_apart(what, plain, recoveries(scaled), work, situation.model.card.dtype)


def needs_whole_runs(situation: Situation) -> None:
    """Raise DoesNotApply where runs behind the numbers were not seen: what is changed at the model's output does not
    reach an engine that computes the output by itself."""
    cells = (cell for curve in situation.sampled.curves for cell in curve.cells)
    if any(cell.oracle.state is State.UNKNOWN for cell in cells):
        raise DoesNotApply("not every number comes from a run of the model as a whole, whose output is changed here")


def order_and_subset_change_nothing(situation: Situation) -> str | None:
    """Fewer layers, the last of them first, give the recoveries that they give among others."""
    layers = situation.layers
    if len(layers) < 2:
        raise DoesNotApply("one layer has no order")
    fewer = (layers[-1], layers[0])
    whole, part = map(recoveries, situation.alone(fewer))
    among = {key: value for key, value in whole.items() if key[0].layer in fewer}
    what = f"asked for among others and as layers {list(fewer)} only"
    return answers_apart(what, among, part, Work.OTHER_BATCH, situation.model.card.dtype, situation.within)


Recoveries = Mapping[tuple[Site, str], Reading]


def answers_apart(
    what: str, one: Recoveries, other: Recoveries, work: Work, dtype: str, least: float = 0.0
) -> str | None:
    """Return, after what was asked, the first cell where two answers differ by more than this work may; or None."""

    def told(apart: list[tuple[Site, str]]) -> str:
        site, metric = apart[0]
        said = (answer.get(apart[0]) for answer in (one, other))
        shown = " and ".join("no answer" if each is None else each.text(".4f") for each in said)
        return f"{what}: {site} ({metric}) recovers {shown} %"

    return Compared(one, other, told, work, dtype, least).breach()


def recoveries(answer: Answer) -> Recoveries:
    """Return every recovery of an answer under its site and metric."""
    return {(curve.site(cell), curve.metric): cell.recovery for curve in answer.curves for cell in curve.cells}


def _exponent(answer: Answer) -> int | None:
    """Return a power of two by which the logits can grow and not overflow, or -8 where there is no room to grow."""
    largest = max(answer.clean.absmax or 0.0, answer.corrupted.absmax or 0.0)
    if not largest or answer.dtype not in _LARGEST:
        return None
    # A patched run may have logits larger than both others: four bits are left to it.
    room = math.floor(math.log2(_LARGEST[answer.dtype] / largest)) - 4
    return min(room, 8) if room > 0 else -8
