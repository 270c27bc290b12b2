"""Somebody else's patching, asked, watched and taken apart.

The engine says numbers; its forward passes say where they come from. For every cell three recoveries stand side by
side: what was reported, what float64 makes of the engine's own logits, and what float64 makes of the harness's.

    reported - own logits     the metric's share             ORC001 to ORC003
    own logits - harness's    the patching's share           ATR002
    own run != bare run       the interception's share       ATR001
    other tokens              the input's share              ATR003
    layers, warnings          the report's share             ATR004, ATR005

Where the runs behind a number cannot be told apart nothing is blamed (ATR006).
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from harness import intercept, metrics
from harness.engines.declaration import Declaration
from harness.engines.definitions import Reported, mistake_of
from harness.engines.formula import Engine, EngineRun, summary, with_answers
from harness.engines.other_questions import other_questions
from harness.engines.roles import Bare, CellPlace, alone, nearest_target, prove, runs_of
from harness.intercept import HookPoint
from harness.intercept.interrupts import let_through
from harness.intercept.observer import ObservedRun, watched
from harness.metrics.mistakes import Pairs, Suspicion, mistake_in
from harness.metrics.tolerances import (
    BASELINE_SHARE,
    Work,
    equal,
    recovery_tolerance,
    relative_difference,
    row_tolerance,
    same_bits,
)
from harness.models.loaded import LoadedModel, Tokenizer
from harness.patching import check_question
from harness.support.user_code import contained
from harness.vocabulary import (
    COMPONENTS,
    METRICS,
    Answer,
    AnswerTokens,
    Cell,
    Curve,
    Direction,
    Finding,
    Mistake,
    Positions,
    Question,
    Reading,
    RowSummary,
    Site,
    State,
    Unanswered,
    metric_named,
    site_position,
)
from harness.vocabulary.errors import EngineUnavailable, HarnessError, Unsupported
from harness.vocabulary.raised import FindingError
from harness.vocabulary.words import number_of

Row = metrics.Row


@dataclass(frozen=True)
class EngineRequest:
    """One sweep of one component under one metric, in the engine's own words."""

    model: Any
    tokenizer: Tokenizer | None
    clean: tuple[int, ...]
    corrupted: tuple[int, ...]
    component: str
    layers: tuple[int, ...]
    metric: str
    positions: Positions = "all"
    direction: Direction = Direction.DENOISING
    answers: AnswerTokens | None = None


@dataclass(frozen=True)
class Reply:
    """What the engine returned: recoveries in its own unit by place; None is undefined.

    `measured`: the harness made the numbers of the engine's logits, so that they are percent.
    """

    recoveries: Mapping[CellPlace, float | None]
    baseline: float | None = None
    measured: bool = False


@dataclass(frozen=True)
class ForeignEngine(Engine):
    """An engine that patches by itself. `ask` runs it; whatever it raises comes through, as an Exception."""

    declared: Declaration = field(default_factory=Declaration)
    ask: Callable[[EngineRequest], Reply] = field(default=lambda request: Reply({}))
    left_behind: Callable[[], str | None] = field(default=lambda: None)
    """Says what the engine left in its own state, such as a stack that should be empty between two answers."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ask", contained(self.ask))

    @property
    def is_native(self) -> bool:
        return False

    @property
    def is_estimate(self) -> bool:
        return self.declared.estimate

    @property
    def version(self) -> str | None:
        return self.declared.version_text

    def knows(self, metric: str) -> bool:
        return metric in self.declared.metrics

    def cannot(self, model: LoadedModel, sweep: Any) -> str | None:
        return self.declared.cannot(self.name, model, sweep)


@dataclass(frozen=True)
class Heard:
    """One call: the reply, the runs seen, and what was printed or warned meanwhile."""

    reply: Reply
    seen: tuple[ObservedRun, ...]
    printed: str
    warned: tuple[str, ...]


_WARNING = re.compile(r"warning|deprecated", re.IGNORECASE)
_MOST_PRINTED = 20_000
"""Characters of an engine's output that are kept: a progress line for each of a hundred layers, several times over."""


def hear(engine: ForeignEngine, request: EngineRequest, calls: bool = False) -> Heard:
    """Ask once, watching; with `calls`, every module. What the engine printed before it raised goes along as a note of
    its exception."""
    with watched(request.model, calls) as watch, _listening() as (text, caught), let_through():
        try:
            reply = engine.ask(request)
        except Exception as error:
            if text.getvalue():
                error.add_note(f"printed before: {text.getvalue()[-2000:]}")
            raise
    printed = text.getvalue()[-_MOST_PRINTED:]
    said = [line.strip() for line in re.split(r"[\r\n]", printed) if _WARNING.search(line)]
    noted = tuple(dict.fromkeys([*said, *(str(w.message) for w in caught)]))
    return Heard(reply, runs_of(watch.seen, request.clean, request.corrupted), printed, noted)


@contextmanager
def _listening() -> Iterator[tuple[io.StringIO, list[warnings.WarningMessage]]]:
    text = io.StringIO()
    with redirect_stdout(text), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield text, caught


@dataclass(frozen=True)
class ObservedRuns:
    """The runs behind an answer: the harness's own on the untouched model, and all that the engine made, in order."""

    bare: Bare
    own: tuple[ObservedRun, ...]


def answer(engine: ForeignEngine, model: LoadedModel, question: Question) -> Answer:
    """Ask a foreign engine and take its answer apart.

    Raises FindingError or UsageError where the question cannot be asked of this model, EngineUnavailable where this
    engine does not claim to answer it, and whatever the engine itself raises.
    """
    return answer_and_runs(engine, model, question)[0]


def answer_and_runs(
    engine: ForeignEngine, model: LoadedModel, question: Question, calls: bool = False
) -> tuple[Answer, ObservedRuns]:
    """Return the answer and the runs behind it; with `calls`, what each module returned in them. Raises as `answer`."""
    points = check_question(model, question)
    sweep = question.sweep
    excluded = {each: engine.cannot(model, replace(sweep, components=(each,))) for each in sweep.components}
    if all(excluded.values()):
        raise EngineUnavailable(next(filter(None, excluded.values())))
    reference = Reference.of(model, question, points, calls)
    question = reference.question
    components, unanswered = _answered(engine, model, reference, excluded, calls)
    first = components[0]
    clean, corrupted = first.own_runs
    suppressed = metrics.suppressed(clean.row, corrupted.row)
    given = Answer(
        strategy=f"{engine.name}'s own",
        clean=summary(clean.row, suppressed),
        corrupted=summary(corrupted.row, suppressed),
        curves=tuple(each.curve() for each in components),
        patched={site: row for each in components for site, row in each.summaries(suppressed).items()},
        answers=question.answers,
        unasked=reference.unasked,
        suppressed=suppressed,
        dtype=clean.dtype,
        mistakes={(each.component, each.metric): found for each in components if (found := each.mistake())},
        attribution=(
            *_merged(finding for each in components for finding in each.findings()),
            *_refused(engine.name, [each for each in unanswered if each.raised], components),
        ),
        unanswered=tuple(unanswered),
        printed="\n".join(each.heard.printed for each in components if each.heard.printed),
    )
    return given, ObservedRuns(reference.bare, tuple(run for each in components for run in each.heard.seen))


def _answered(
    engine: ForeignEngine, model: LoadedModel, reference: Reference, excluded: Mapping[str, str | None], calls: bool
) -> tuple[list[_ComponentAnswer], list[Unanswered]]:
    """Return what the engine answers, component by component and metric by metric, and what it does not.

    Raises Unsupported where its adapter refuses everything, and FindingError where the model is one that it declares.
    """
    components: list[_ComponentAnswer] = []
    unanswered: list[Unanswered] = []
    for component in reference.question.sweep.components:
        if reason := excluded[component]:
            unanswered.append(Unanswered(component, None, reference.cells(component), reason))
            continue
        for metric in reference.question.metrics:
            try:
                components.append(_ComponentAnswer(engine, model, reference, component, metric).filled(calls))
            except Unsupported as error:
                cells = reference.cells(component)
                unanswered.append(Unanswered(component, metric, cells, f"{engine.name}: {error}", raised=True))
    if components:
        return components, unanswered
    reason = next(each.reason for each in unanswered if each.raised)
    if engine.declared.claims(model):
        raise FindingError(Finding("ATR008", f"it declares {model.card.architecture}, and refuses it: {reason}"))
    raise Unsupported(reason)


def _refused(name: str, refused: Sequence[Unanswered], answered: Sequence[_ComponentAnswer]) -> Iterator[Finding]:
    """Yield the metrics and the components that are declared by name and refused in all that was asked of them."""
    for each in {each.metric: each for each in refused}.values():
        if each.metric not in {one.metric for one in answered}:
            yield Finding("ATR008", f"it declares {each.metric}, and refuses it: {each.reason}", metric=each.metric)
    for each in {each.component: each for each in refused}.values():
        if each.component not in {one.component for one in answered}:
            yield Finding("ATR008", f"it declares {each.component}, and refuses it: {each.reason}")


def mistake_behind(engine: ForeignEngine, model: LoadedModel, question: Question) -> Mistake | None:
    """Return what makes wrong numbers of an engine's own logits, for one component and metric. Raises as `answer`."""
    reference = Reference.of(model, question, check_question(model, question))
    (component,), (metric,) = question.sweep.components, question.metrics
    return _ComponentAnswer(engine, model, reference, component, metric).filled().mistake()


@dataclass(frozen=True)
class Reference:
    """The harness's own runs of a question: the bare ones, and every patched one when it is asked for."""

    model: LoadedModel
    question: Question
    bare: Bare
    clean: EngineRun
    corrupted: EngineRun
    points: tuple[HookPoint, ...]
    unasked: tuple[Finding, ...] = ()
    rows: dict[Site, EngineRun] = field(default_factory=dict)

    @classmethod
    def of(cls, model: LoadedModel, question: Question, points: Sequence[HookPoint], calls: bool = False) -> Reference:
        clean, corrupted = question.clean.ids, question.corrupted.ids
        with watched(model.module, calls) as watch:
            for ids in (clean, corrupted):
                intercept.forward(model, ids)
        first, second = (EngineRun.of(seen.logits) for seen in watch.seen)
        noising = question.sweep.direction is Direction.NOISING
        bare = Bare(watch.seen[noising], watch.seen[not noising])
        question, unasked = with_answers(question, first, second, model)
        return cls(model, question, bare, first, second, tuple(points), unasked)

    def cells(self, component: str) -> int:
        """Return how many cells are asked for of a component."""
        tokens = len(self.question.clean.ids) if self.question.sweep.positions == "each" else 1
        return tokens * sum(point.component == component for point in self.points)

    def patched(self, site: Site) -> EngineRun:
        """Return the harness's own patched run at a site, one forward pass after another."""
        if site not in self.rows:
            wanted = (site.component, site.layer, site.head)
            point = next(p for p in self.points if (p.component, p.layer, p.head) == wanted)
            positions = self.question.sweep.positions
            at: Positions = (int(site.position),) if positions == "each" else positions
            _, recording = intercept.record(self.model, self.bare.source.ids, [point])
            self.rows[site] = EngineRun.of(intercept.replace(self.model, self.bare.target.ids, [point], recording, at))
        return self.rows[site]


class _ComponentAnswer:
    """One component under one metric: the request, what was heard, and the cells that follow."""

    def __init__(self, engine: ForeignEngine, model: LoadedModel, reference: Reference, component: str, metric: str):
        self.engine, self.reference, self.component, self.metric = engine, reference, component, metric
        question, sweep = reference.question, reference.question.sweep
        points = [point for point in reference.points if point.component == component]
        layers = tuple(dict.fromkeys(point.layer for point in points))
        self.on_input = points[0].is_input
        tokens = range(len(question.clean.ids)) if sweep.positions == "each" else (None,)
        self.places = [CellPlace(point.layer, token, point.head) for point in points for token in tokens]
        self.request = EngineRequest(
            model.module, model.tokenizer, question.clean.ids, question.corrupted.ids,
            engine.declared.own_name(model, component), layers, metric, sweep.positions, sweep.direction,
            question.answers,
        )  # fmt: skip

    def filled(self, calls: bool = False) -> _ComponentAnswer:
        self.heard = hear(self.engine, self.request, calls)
        self.roles = prove(self.heard.seen, self.reference.bare, self.places, self.on_input)
        if not self._same_prompts():
            self._distrust()
            self._match()
            self._isolate()
        return self

    def _fits(self, place: CellPlace, row: Any) -> bool:
        """Return whether the number that was reported for a place is what float64 makes of a row."""
        return self._near(self._reported(place), self._of_row(row))

    def _distrust(self) -> None:
        """Forget runs that are only known by their number, and do not go with the numbers that were reported: an
        engine that makes its patched runs by itself may run the model as a whole as often for something else."""
        if not self._unmoved(self.roles.unmoved):
            self.roles.patched = {}

    def _unmoved(self, places: Iterable[CellPlace]) -> bool:
        """Return whether what was reported for all these places is what an unpatched run makes, and not by chance."""
        points = recovery_tolerance(Work.SAME, self.reference.clean.dtype)
        still = self._of_row(self.reference.bare.target.logits)
        said = [self._reported(place) for place in places if place in self.heard.reply.recoveries]
        return all(abs((each.value or 0.0) - (still.value or 0.0)) <= points for each in said)

    def _match(self) -> None:
        """Know runs by their logits, which are those of the right patch and go with the number that was reported."""
        for place in self.heard.reply.recoveries:
            if place in self.roles.patched or place not in self.places:
                continue
            row = nearest_target(self.heard.seen, self.reference.bare, self.reference.patched(self.site(place)).raw)
            if row is not None and self._fits(place, row):
                self.roles.patched[place] = row

    def _isolate(self) -> None:
        """Ask again, alone, for each place whose run was not told apart or does not go with its number.

        A call for one place has one run that can be its patched one; its number must be the same as before to count, up
        to the rounding of a smaller batch, and to no more than what tells a metric that is wrong.
        """
        for place in self.places:
            if (place.token, place.head) != (None, None) or place not in self.heard.reply.recoveries:
                continue
            if place in self.roles.patched and self._fits(place, self.roles.patched[place]):
                continue
            try:
                again = hear(self.engine, replace(self.request, layers=(place.layer,)))
            except Unsupported:
                continue
            row = alone(again.seen, self.reference.bare)
            if row is None or place not in again.reply.recoveries or not self._same_number(again.reply, place):
                continue
            if not same_bits(row, self.reference.bare.target.logits) or self._unmoved(self.places):
                self.roles.patched[place] = row

    def _same_number(self, again: Reply, place: CellPlace) -> bool:
        one, two = self._reading(again, place), self._reported(place)
        return self._near(one, two, Work.OTHER_BATCH) and self._near(one, two, Work.OTHER_FORMULA)

    def _same_prompts(self) -> bool:
        return self.reference.bare.source.ids == self.reference.bare.target.ids

    def site(self, place: CellPlace) -> Site:
        shared = site_position(self.reference.question.sweep.positions)
        return Site(self.component, place.layer, shared if place.token is None else str(place.token), place.head)

    @cached_property
    def own_runs(self) -> tuple[EngineRun, EngineRun]:
        """The engine's own clean and corrupted runs; where they were not seen, the bare ones."""
        source = self.reference.bare.source.logits if self.roles.source is None else self.roles.source
        target = self.reference.bare.target.logits if self.roles.target is None else self.roles.target
        noising = self.request.direction is Direction.NOISING
        return (EngineRun.of(target), EngineRun.of(source)) if noising else (EngineRun.of(source), EngineRun.of(target))

    @cached_property
    def own_ends(self) -> metrics.Ends:
        return self._ends(*self.own_runs)

    def _ends_seen(self) -> bool:
        return self._same_prompts() or not (self.roles.source is None or self.roles.target is None)

    def curve(self) -> Curve:
        clean, corrupted = self.own_runs
        ends, said = self.own_ends, self._baseline
        true = ends.baseline
        if said is not None and not self._ends_seen():
            true = Reading.absent(State.UNKNOWN)
        return Curve(
            self.component, self.metric, metric_named(self.metric).unit,
            true if said is None else ends.said(Reading.of(said)), true,
            tuple(self._cell(place) for place in self.places if place in self.heard.reply.recoveries),
            metrics.headroom(self.metric, clean.row, corrupted.row, clean.dtype),
            metrics.shift_share(self.metric, clean.row, corrupted.row),
            ends.denominator,
        )  # fmt: skip

    @cached_property
    def _baseline(self) -> float | None:
        """The baseline that was reported, as m(corrupted) also where m(clean) - m(corrupted) is meant."""
        said, ends = self.heard.reply.baseline, self.own_ends
        if said is None or ends.denominator is None or not self._means_gap:
            return said
        return ends.denominator.clean - said

    @property
    def _means_gap(self) -> bool:
        said, declared = self.heard.reply.baseline, self.engine.declared
        if said is None or self.heard.reply.measured:
            return False
        return declared.is_gap(said, self.own_ends, self.metric, BASELINE_SHARE)

    def summaries(self, suppressed: tuple[int, ...]) -> dict[Site, RowSummary]:
        return {
            self.site(place): summary(EngineRun.of(raw).row, suppressed) for place, raw in self.roles.patched.items()
        }

    def _cell(self, place: CellPlace) -> Cell:
        site = self.site(place)
        return Cell(site.layer, site.position, self._reported(place), self.own(place), site.head)

    def _reported(self, place: CellPlace) -> Reading:
        return self._reading(self.heard.reply, place)

    def _reading(self, reply: Reply, place: CellPlace) -> Reading:
        said, ends = reply.recoveries[place], self.own_ends
        if reply.measured and said is not None:
            return ends.said(Reading.of(said))
        return ends.said(self.engine.declared.reading(said, ends))

    def own(self, place: CellPlace) -> Reading:
        """Return the recovery that float64 makes of the engine's own logits."""
        return self._of_row(self.roles.patched.get(place))

    def _of_row(self, raw: Any) -> Reading:
        ends = self.own_ends
        nothing = ends.recovery(ends.corrupted)
        if not nothing.finite:
            return nothing
        if raw is None or not self._ends_seen():
            return Reading.absent(State.UNKNOWN)
        return ends.recovery(self._measure(self.own_runs[0], EngineRun.of(raw)))

    def right(self, place: CellPlace) -> Reading:
        """Return the recovery that float64 makes of the harness's logits."""
        ends = self._right_ends
        nothing = ends.recovery(ends.corrupted)
        if not nothing.finite:
            return nothing
        return ends.recovery(self._measure(self.reference.clean, self.reference.patched(self.site(place))))

    @cached_property
    def _right_ends(self) -> metrics.Ends:
        return self._ends(self.reference.clean, self.reference.corrupted)

    def _ends(self, clean: EngineRun, corrupted: EngineRun) -> metrics.Ends:
        return metrics.ends(self.metric, clean.row, corrupted.row, clean.dtype, self.reference.question.answers)

    def _measure(self, clean: EngineRun, run: EngineRun) -> Reading:
        return metrics.measure(self.metric, clean.row, run.row, self.reference.question.answers)

    def mistake(self) -> Mistake | None:
        """Return what makes the reported numbers of the engine's own logits, where they are wrong."""
        if self._same_prompts() or not self._ends_seen():
            return None
        clean, corrupted = self.own_runs
        answered = [
            (self._cell(place), raw)
            for place, raw in self.roles.patched.items()
            if place in self.heard.reply.recoveries
        ]
        reported = Reported(
            self.metric, clean.raw, corrupted.raw, self.heard.reply.baseline, self.request.answers, answered
        )
        return mistake_of(reported, self._points())

    # -- what watching showed ---------------------------------------------------------------------------------------

    def findings(self) -> Iterator[Finding]:
        yield from self._perturbation()
        yield from self._input()
        yield from self._missing()
        yield from self._warnings()
        yield from self._convention()
        if not self._same_prompts():
            yield from self._patching()
            yield from [*self._unknown()] or self._unknown_baseline()

    def _perturbation(self) -> Iterator[Finding]:
        for name, (bare, own) in self.roles.perturbed.items():
            yield Finding(
                "ATR001",
                f"its unpatched {name} run differs from the bare run by {_apart(bare, own)} of the largest logit",
                evidence={"run": name, "difference": _apart(bare, own)},
            )

    def _input(self) -> Iterator[Finding]:
        if self._ran_others():
            ids = list(self.roles.other_prompts[0])
            clean, corrupted = list(self.request.clean), list(self.request.corrupted)
            yield Finding(
                "ATR003",
                f"it ran token ids {ids}; the prompts are {clean} and {corrupted}",
                evidence={
                    "ran": [list(ids) for ids in self.roles.other_prompts],
                    "clean": clean,
                    "corrupted": corrupted,
                },
            )

    def _ran_others(self) -> bool:
        """Return whether the numbers may come from other tokens: some are wrong and of no run of the prompts that is
        known, or no run was of the prompts and enough were of others. An engine may run others besides, to warm up.
        """
        others = self.roles.other_prompts
        if not others:
            return False
        bare = self.reference.bare
        prompts = [run for run in self.heard.seen if run.ids in (bare.source.ids, bare.target.ids)]
        if not prompts and len(self.heard.seen) > len(self.places):
            return True
        said = [p for p in self.places if p in self.heard.reply.recoveries and p not in self.roles.patched]
        return not all(self._near(self._reported(place), self.right(place), Work.OTHER_BATCH) for place in said)

    def _missing(self) -> Iterator[Finding]:
        lacking = [self.site(place) for place in self.places if place not in self.heard.reply.recoveries]
        if lacking:
            yield Finding(
                "ATR004",
                f"{len(lacking)} of {number_of(len(self.places), 'cell')} asked for are not in the result",
                lacking[0],
                self.metric,
                {"sites": [str(site) for site in lacking]},
            )

    def _warnings(self) -> Iterator[Finding]:
        alike: dict[str, list[str]] = {}
        for text in self.heard.warned:
            alike.setdefault(re.sub(r"\d+", "", text), []).append(text)
        for texts in alike.values():
            more = f" (and {len(texts) - 1} alike)" if len(texts) > 1 else ""
            yield Finding("ATR005", texts[0] + more, evidence={"warnings": texts})

    def _convention(self) -> Iterator[Finding]:
        if self._means_gap and self.own_ends.denominator is not None:
            corrupted, gap = self.own_ends.denominator.corrupted, self.own_ends.denominator.gap
            yield Finding(
                "ATR007",
                f"{self.heard.reply.baseline:.6g} is m(clean) - m(corrupted); m(corrupted) is {corrupted:.6g}",
                metric=self.metric,
                evidence={"reported": self.heard.reply.baseline, "gap": gap, "corrupted": corrupted},
            )

    def _patching(self) -> Iterator[Finding]:
        wrong = []
        for place, raw in self.roles.patched.items():
            wanted = self.reference.patched(self.site(place)).raw
            if not equal(wanted, raw, Work.OTHER_BATCH):
                wrong.append((place, _apart(wanted, raw)))
        if wrong:
            place, apart = max(wrong, key=lambda each: float(each[1]))
            layers = [place[0] for place, _ in wrong]
            own, right = self.own(place), self.right(place)
            mistake = self._instead([(self._cell(at), self.own(at), self.right(at)) for at in self.roles.patched])
            yield Finding(
                "ATR002",
                f"its patched logits are off by {apart} of the largest logit: {own.text('.2f')} % by its logits, "
                f"{right.text('.2f')} % by the harness's; {len(wrong)} of "
                f"{number_of(len(self.places), 'cell')}{_named(mistake)}",
                self.site(place),
                self.metric,
                {"layers": layers, "own": own.value, "harness": right.value} | (mistake.evidence if mistake else {}),
            )

    def _unknown_baseline(self) -> Iterator[Finding]:
        said, right = self._baseline, self._right_ends.baseline
        if said is None or right.value is None or self._ends_seen():
            return
        share = max(BASELINE_SHARE, row_tolerance(Work.OTHER_BATCH, self.reference.clean.dtype))
        if not abs(said - right.value) <= share * abs(right.value):
            yield Finding(
                "ATR006",
                f"reported a baseline of {said:.6g}, the harness finds {right.text('.6g')}, and the unpatched runs "
                "behind it were not seen",
                metric=self.metric,
                evidence={"reported": said, "harness": right.value, "runs": len(self.heard.seen)},
            )

    def _unknown(self) -> Iterator[Finding]:
        if self.engine.is_estimate:
            return  # nobody makes the runs that it speaks of, and it need not be right
        unproven = [
            (place, self._reported(place), self.right(place))
            for place in self.places
            if place in self.heard.reply.recoveries and place not in self.roles.patched
        ]
        wrong = [each for each in unproven if not self._near(each[1], each[2], Work.OTHER_BATCH)]
        if wrong:
            place, said, right = wrong[0]
            mistake = self._instead([(self._cell(at), said, right) for at, said, right in unproven])
            yield Finding(
                "ATR006",
                f"reported {said.text('.2f')} %, the harness finds {right.text('.2f')} %, and the "
                f"{number_of(len(self.heard.seen), 'run')} of the model did not show which part is wrong; "
                f"{len(wrong)} of {number_of(len(self.places), 'cell')}{_named(mistake)}",
                self.site(place),
                self.metric,
                {"layers": [place[0] for place, _, _ in wrong], "runs": len(self.heard.seen)}
                | (mistake.evidence if mistake else {}),
            )

    def _instead(self, pairs: Pairs) -> Mistake | None:
        """Return what makes what was said of what is right, or the question that was answered instead."""
        return mistake_in(pairs, self._points(), self._suspicions)

    def _suspicions(self) -> Iterator[Suspicion]:
        if len(self.places) > _MOST_PLACES:
            return
        model, question = self.reference.model, self.reference.question
        sweep = replace(question.sweep, components=(self.component,), layers=self.request.layers)
        asked = replace(question, sweep=sweep, metrics=(self.metric,))
        known = [name for name in METRICS if self.engine.knows(name)]
        able = [name for name in COMPONENTS if not self.engine.cannot(model, replace(sweep, components=(name,)))]
        shared = site_position(sweep.positions)
        for kind, said, other in other_questions(asked, able, known):
            try:
                reference = Reference.of(model, other, check_question(model, other))
                one = _ComponentAnswer(self.engine, model, reference, *other.sweep.components, *other.metrics)
                numbers = {
                    (at.layer, shared if at.token is None else str(at.token), at.head): one.right(at)
                    for at in one.places
                }
            except HarnessError:
                continue  # this model or this engine has no such question
            yield Suspicion(kind, said, numbers)

    def _points(self, work: Work = Work.OTHER_FORMULA) -> float:
        """Return how far apart two equal recoveries may be, by another formula and by another `work`."""
        dtype = self.reference.clean.dtype
        return max(recovery_tolerance(each, dtype) for each in (Work.OTHER_FORMULA, work))

    def _near(self, one: Reading, two: Reading, work: Work = Work.OTHER_FORMULA) -> bool:
        if one.value is None or two.value is None:
            return one.value is two.value
        return abs(one.value - two.value) <= self._points(work)


_MOST_PLACES = 64
"""Cells up to which other questions are asked for an explanation: each takes as many forward passes."""


def _named(mistake: Mistake | None) -> str:
    return f": {mistake.said}" if mistake else ""


def _apart(one: Any, two: Any) -> str:
    return f"{relative_difference(one, two):.1e}"


def _merged(found: Iterator[Finding]) -> Iterator[Finding]:
    """Leave out what several sweeps of one question say in the same words."""
    told: set[str] = set()
    for finding in found:
        text = f"{finding.code} {finding.site} {finding.metric} {finding.message}"
        if text not in told:
            told.add(text)
            yield finding
