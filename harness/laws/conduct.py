"""Laws of conduct: what any engine's answers must obey on any model, asked from outside.

Each takes a subject and returns what it saw broken, or None; DoesNotApply says why it cannot be asked here. No law
needs an oracle, except on ground-truth models, whose recoveries are known in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np

from harness.engines import ForeignEngine, answer
from harness.engines.roles import CellPlace
from harness.intercept import forward, output_changed, record
from harness.intercept.hookpoints import HookPoint, layers_with, resolve
from harness.laws.answers import needs_whole_runs
from harness.laws.breach import LawBreach, breaches
from harness.laws.compared import Compared
from harness.laws.declared import declares_otherwise
from harness.laws.subject import EngineUnderTest, Outcome, named
from harness.metrics import SCORES, host_row
from harness.metrics.tolerances import Work, equal_readings, recovery_tolerance, same_bits, work_between
from harness.models.architectures import blocks_of
from harness.vocabulary import METRICS, AnswerTokens, Sweep
from harness.vocabulary.errors import DoesNotApply, TapError, Unsupported
from harness.vocabulary.words import number_of

Change = Callable[[mx.array], mx.array]


def answers_completely(subject: EngineUnderTest) -> tuple[LawBreach, ...]:
    """A plain question gets a finite number for every cell asked for."""
    try:
        outcome = subject.plain
    except Unsupported as error:
        if said := declares_otherwise(subject):
            return (LawBreach("", f"{said}: {error}"),)
        raise
    if outcome.error:
        return (LawBreach("", f"raised {outcome.error}"),)
    if subject.undefined:
        return ()
    found = []
    if lacking := [place for place in subject.places if place not in outcome.numbers]:
        found.append(LawBreach("missing", f"{_listed(lacking)} missing from the result"))
    if broken := {place: reading.state.value for place, reading in outcome.numbers.items() if not reading.finite}:
        found.append(LawBreach("not finite", f"{_listed(list(broken))} {', '.join(sorted(set(broken.values())))}"))
    return tuple(found)


def _listed(places: Sequence[CellPlace]) -> str:
    if all(place == CellPlace(place.layer) for place in places):
        return f"layers {[place.layer for place in places]} are"
    return f"{number_of(len(places), 'cell')}, the first {named(places[0])}, are"


def patches_where_it_says(subject: EngineUnderTest) -> tuple[LawBreach, ...]:
    """A patch reaches the layer asked for, once: its logits are those of the patch."""
    if isinstance(subject.engine, ForeignEngine):
        found = subject.taken_apart.attribution
        seen = [finding for finding in found if finding.code in ("ATR002", "ATR006")]
        return tuple(LawBreach(finding.code, f"{finding.site}: {finding.message}") for finding in seen)
    try:
        by_walk, by_step = (
            answer(subject.engine, subject.model, subject.question(strategy=strategy)).curves[0].cells
            for strategy in ("auto", "stepwise")
        )
    except TapError as error:
        return breaches(str(error))
    for one, other in zip(by_walk, by_step, strict=True):
        if not equal_readings(one.oracle, other.oracle, Work.OTHER_BATCH, subject.model.card.dtype):
            told = f"{one.oracle.text('.4f')} % in one pass, {other.oracle.text('.4f')} % stepwise"
            return breaches(f"layer {one.layer}: {told}")
    return ()


def numbers_follow_from_the_logits(subject: EngineUnderTest) -> tuple[LawBreach, ...]:
    """Under every metric a recovery is what float64 makes of the engine's own logits."""
    if subject.engine.is_native:
        raise DoesNotApply("the harness's own numbers are made so")
    known = [(curve, cell) for curve in subject.taken_apart.curves for cell in curve.cells if cell.oracle.finite]
    if not known:
        raise DoesNotApply("its own logits were not told apart")
    found: dict[str, LawBreach] = {}
    for curve, cell in known:
        if not equal_readings(cell.recovery, cell.oracle, Work.OTHER_FORMULA, subject.model.card.dtype):
            said, true = (reading.text(".4f") for reading in (cell.recovery, cell.oracle))
            text = f"{curve.site(cell)}: {curve.metric} says {said} %, float64 makes {true} % of its own logits"
            found.setdefault(curve.metric, LawBreach(curve.metric, text))
    return tuple(found.values())


def places_have_one_answer(subject: EngineUnderTest) -> tuple[LawBreach, ...]:
    """A token of a grid is the list of that token, and the last is the list of its number."""
    last = len(subject.clean) - 1
    ways = {
        name: subject.of(replace(subject.asked, positions=name))
        for name in subject.declared.positions
        if name in ("last", "each", (last,))
    }
    ways = {name: way for name, way in ways.items() if way.lacking is None and way.refusal is None}
    if len(ways) < 2:
        raise DoesNotApply("it declares no two ways to ask for the last token")
    at_last = {name: _at_last(way, last) for name, way in ways.items()}
    (first, one), *others = at_last.items()
    shown = {name: f"positions {name if isinstance(name, str) else list(name)}" for name in at_last}
    told = {name: _apart(subject, one, other, shown[first], shown[name], Work.OTHER_BATCH) for name, other in others}
    return tuple(LawBreach(f"{shown[first]} and {shown[name]}", text) for name, text in told.items() if text)


def _at_last(way: EngineUnderTest, last: int) -> Outcome:
    """Return what is said of the last token, under the places of a question about it alone."""
    numbers = {
        CellPlace(place.layer, None, place.head): reading
        for place, reading in way.plain.numbers.items()
        if place.token in (None, last)
    }
    return replace(way.plain, numbers=numbers)


def nested_names_agree(subject: EngineUnderTest) -> str | None:
    """A module and the child whose output it returns are the same place under two names."""
    outer, inner = _nested(subject)
    one, other = subject.ask(outer), subject.ask(inner)
    return _apart(subject, one, other, outer, inner, Work.OTHER_BATCH)


def asked_again_answers_the_same(subject: EngineUnderTest) -> str | None:
    """The same question twice gives the same numbers."""
    one, other = subject.plain, subject.ask()
    return _apart(subject, one, other, "the first time", "again", work_between(one.strategy, other.strategy))


def names_of_tokens_are_free(subject: EngineUnderTest) -> tuple[LawBreach, ...]:
    """A permuted vocabulary, or one padded with equal columns, leaves an l2 recovery as it is."""
    subject.needs(metric="l2")
    if isinstance(subject.engine, ForeignEngine):
        needs_whole_runs(subject.situation)
    plain = subject.under("l2").plain
    changes: dict[str, Change] = {
        "vocabulary reversed": lambda logits: logits[..., ::-1],
        "padded with equal columns": lambda logits: mx.concatenate([logits, mx.zeros_like(logits[..., :64])], axis=-1),
    }
    found = []
    for name, change in changes.items():
        with output_changed(subject.model.module, _each(change)):
            changed = subject.ask(metric="l2")
        if breach := _apart(subject, plain, changed, "as it is", name, Work.OTHER_ORDER):
            found.append(LawBreach(name, breach))
    return tuple(found)


def exchanged_answers_change_nothing(subject: EngineUnderTest) -> str | None:
    """The answer and the wrong answer exchanged turn the sign of every logit_diff, and leave its recovery as it is."""
    subject.needs(metric="logit_diff")
    asked = subject.under("logit_diff")
    if asked.answers is None:
        raise DoesNotApply("no logit moves between the prompts")
    turned = asked.ask(answers=AnswerTokens(asked.answers.wrong, asked.answers.answer))
    work = work_between(asked.plain.strategy, turned.strategy)
    return _apart(subject, asked.plain, turned, "as it is", "answers exchanged", work)


def l2_and_mse_agree(subject: EngineUnderTest) -> str | None:
    """recovery_mse = 1 - (1 - recovery_l2)^2, for any logits."""
    subject.needs(metric="l2")
    subject.needs(metric="mse")
    l2, mse = (subject.under(metric).plain.finite for metric in ("l2", "mse"))
    if not l2.keys() & mse.keys():
        raise DoesNotApply("no layer has a finite recovery under both metrics")
    for at in l2.keys() & mse.keys():
        implied = 100 * (1 - (1 - l2[at] / 100) ** 2)
        if abs(implied - mse[at]) > _near(subject) * max(1.0, 2 * abs(1 - l2[at] / 100)):
            return f"{named(at)}: l2 {l2[at]:.2f} % asks for mse {implied:.2f} %, it says {mse[at]:.2f} %"
    return None


def closed_forms_are_met(subject: EngineUnderTest) -> tuple[LawBreach, ...]:
    """On a model whose recoveries are known beforehand, these are the ones."""
    if subject.model.known is None:
        raise DoesNotApply("nothing is known of this model beforehand")
    known = [name for name, kind in METRICS.items() if not kind.needs_answers and subject.engine.knows(name)]
    if subject.engine.is_estimate:
        if not subject.model.known.linear:
            raise DoesNotApply("an estimate is exact where the model is linear, and this one is not")
        known = [name for name in known if name in _STRAIGHT]
    found: dict[str, str | None] = {}
    for metric in known:
        with suppress(Unsupported):  # `declared` says so
            found[metric] = _off_the_closed_form(subject, metric)
    return tuple(LawBreach(metric, breach) for metric, breach in found.items() if breach)


_STRAIGHT = ("l2",)
"""Distances that fall evenly on the way from one row of logits to the other."""


def _off_the_closed_form(subject: EngineUnderTest, metric: str) -> str | None:
    known, question = subject.model.known, subject.under(metric).question()
    assert known is not None
    points = known.tolerance(question, metric)
    points = points if subject.engine.is_native else max(points, _near(subject))
    outcome = subject.under(metric).plain
    for place in subject.under(metric).places:
        wanted = known.recovery(question, subject.component, place.layer, metric, place.head)
        if wanted is None or wanted.value is None:
            continue
        said = outcome.numbers.get(place)
        if said is None or said.value is None or abs(said.value - wanted.value) > points:
            text = said.text(".4f") if said else outcome.error or "missing"
            return f"{metric} at {named(place)}: {text}, the closed form is {wanted.value:.4f} %"
    return None


def unequal_lengths_are_refused(subject: EngineUnderTest) -> str | None:
    """Prompts of unequal length get an error or a warning, never silent numbers."""
    outcome = subject.ask(corrupted=(*subject.corrupted, subject.corrupted[-1]))
    if outcome.error or _news(subject, outcome) or not outcome.finite:
        return None
    at, value = next(iter(outcome.finite.items()))
    lengths = f"{len(subject.clean)} and {len(subject.corrupted) + 1} tokens"
    return f"prompts of {lengths} are answered without a word: {named(at)} recovers {value:.2f} %"


def unknown_names_are_refused(subject: EngineUnderTest) -> tuple[LawBreach, ...]:
    """A metric, a component or a layer that does not exist gets an error or a warning, never silence."""
    beyond = subject.model.card.layers + 95
    return tuple(
        LawBreach(kind, f"{what} does not exist, and {done}")
        for kind, what, outcome in (
            ("metric", "metric 'l3'", subject.ask(metric="l3")),
            ("component", "component 'mlpp'", subject.ask(component="mlpp")),
            ("layer", f"layer {beyond}", subject.ask(layers=(beyond,))),
        )
        if (done := _silently(subject, outcome))
    )


def _silently(subject: EngineUnderTest, outcome: Outcome) -> str | None:
    """Return what was done without an error and without a warning; None where there was either."""
    if outcome.error or _news(subject, outcome):
        return None
    if not outcome.finite:
        return "the answer is empty without a word"
    at, value = next(iter(outcome.finite.items()))
    return f"is answered: {named(at)} recovers {value:.2f} %"


def undefined_is_never_a_number(subject: EngineUnderTest) -> tuple[LawBreach, ...]:
    """NaN and inf in the logits, and equal prompts, leave no recovery; a number there is invented."""
    cases = {"equal prompts": subject.ask(corrupted=subject.clean)}
    if subject.undefined and _has_no_value(subject):
        with suppress(Unsupported):
            cases["logits that are not finite"] = subject.plain
    found = {what: next(iter(outcome.finite.items())) for what, outcome in cases.items() if outcome.finite}
    return tuple(
        LawBreach(what, f"{what}: {named(at)} is reported to recover {value:.2f} % ({subject.metric})")
        for what, (at, value) in found.items()
    )


def _has_no_value(subject: EngineUnderTest) -> bool:
    """Return whether no right number of the form is finite. A score whose own logits are finite has one for those who
    read no others; of a metric that the harness does not know, nobody can say."""
    right = {} if subject.lacking else subject.right()
    if not right or any(reading.finite for reading in right.values()):
        return False
    score, answers = SCORES.get(subject.metric), subject.answers
    if score is None or answers is None:
        return True
    with np.errstate(all="ignore"):
        rows = (host_row(forward(subject.model, ids)) for ids in (subject.clean, subject.corrupted))
        return not all(np.isfinite(score(row, answers)) for row in rows)


# -- common to several -------------------------------------------------------------------------------------------------


def _news(subject: EngineUnderTest, outcome: Outcome) -> set[str]:
    """Return the warnings that an ordinary question does not raise as well."""
    return set(outcome.warned) - set(subject.plain.warned)


def _apart(subject: EngineUnderTest, one: Outcome, other: Outcome, first: str, second: str, work: Work) -> str | None:
    for outcome, name in ((one, first), (other, second)):
        if outcome.error:
            return f"{name}: raised {outcome.error}"

    def told(apart: list[CellPlace]) -> str:
        said = (outcome.numbers.get(apart[0]) for outcome in (one, other))
        a, b = (reading.text(".4f") if reading else "missing" for reading in said)
        return f"{named(apart[0])} recovers {a} % ({first}) and {b} % ({second})"

    return Compared(one.numbers, other.numbers, told, work, subject.model.card.dtype).breach()


def _near(subject: EngineUnderTest) -> float:
    return recovery_tolerance(Work.OTHER_FORMULA, subject.model.card.dtype)


def _each(change: Change) -> Callable[[Any], Any]:
    """Return a change of what a model returns, made of one of its logits."""
    return lambda out: (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)


def _nested(subject: EngineUnderTest) -> tuple[str, str]:
    """Return a component and the path of its child that returns the very same array in every layer."""
    model = subject.model
    for outer in ("mlp", "self_attn"):
        if layers_with(model, outer) != list(range(model.card.layers)) or subject.cannot(outer):
            continue
        points = resolve(model, Sweep((outer,)))
        names = [set(_same_output(subject, point)) for point in points]
        common = sorted(set.intersection(*names), key=len) if names else []
        for inner in common:
            if not subject.cannot(inner):
                return outer, inner
    raise DoesNotApply("no component here has a child that returns its output")


def _same_output(subject: EngineUnderTest, point: HookPoint) -> list[str]:
    paths = {id(module): name for name, module in blocks_of(subject.model.module)[point.layer].named_modules() if name}
    children = [
        HookPoint(paths[id(module)], point.layer, module)
        for _, module in point.module.named_modules()
        if id(module) in paths and module is not point.module
    ]
    found = []
    for child in children:
        try:
            _, kept = record(subject.model, subject.clean, [point, child])
        except (TapError, AttributeError, TypeError):
            continue
        a, b = kept[point][-1], kept[child][-1]
        if a.shape == b.shape and a.dtype == b.dtype and same_bits(a, b):
            found.append(child.component)
    return found
