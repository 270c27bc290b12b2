"""From a question to the logits of its unpatched and patched runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import mlx.core as mx

from harness import intercept
from harness.intercept import HookPoint, Recording, resolve, resolve_positions
from harness.models.loaded import LoadedModel
from harness.patching.layout import OnePassImpossible
from harness.patching.memory import BASE_ROWS, Meter, plan_memory, plan_stepwise
from harness.patching.one_pass import one_pass
from harness.patching.patch import Patch, patches_of
from harness.patching.proof import missing, prove, prove_sharing, unproven
from harness.patching.remembered import Proofs
from harness.patching.values import check_value, with_values
from harness.vocabulary import STRATEGIES, Direction, Finding, Memory, Question, Site, Sweep, Tokens, metric_named
from harness.vocabulary.errors import UnknownName
from harness.vocabulary.raised import AlignmentError
from harness.vocabulary.words import number_of

WORTH_SHARING = 32
"""Token-rows below which running a common prefix by itself costs more than it saves, because it reads all weights once:
measured on SmolLM2, where one token and 30 cells are level and three tokens take a third off."""

Walks = Iterator[tuple[mx.array, dict[Patch, mx.array]]]


@dataclass
class Walk:
    """The runs of a sweep: logits `[vocab]` in the model's dtype, last token only.

    `sites` are the cells in order; `patched` yields each of them once with its logits, as they are ready. `fallback`
    says why some or all of them were not walked in one pass; ask for it after the last.
    """

    clean: mx.array
    corrupted: mx.array
    sites: tuple[Site, ...]
    patched: Iterator[tuple[Site, mx.array]]
    runs: Runs

    @property
    def strategy(self) -> str:
        return self.runs.strategy

    @property
    def memory(self) -> Memory | None:
        """What was planned, and the peak so far."""
        return self.runs.memory and replace(self.runs.memory, peak=self.runs.meter.peak())

    @property
    def fallback(self) -> str | None:
        return self.runs.fallback

    @property
    def proven_on(self) -> str:
        """The day of the remembered proof that the sweep relies on, or nothing."""
        return self.runs.proven_on


@dataclass(frozen=True)
class Plan:
    """A sweep resolved on a model: activations of the source run go into the target run, one patch at a time."""

    model: LoadedModel
    source: tuple[int, ...]
    target: tuple[int, ...]
    patches: tuple[Patch, ...]
    memory: Memory

    @property
    def shared(self) -> int:
        """How many tokens the prompts begin with alike, if it pays to run them once, and nothing changes them."""
        if any(patch.point.put_in for patch in self.patches):
            return 0
        pairs = enumerate(zip(self.source, self.target, strict=True))
        same = next((i for i, (a, b) in pairs if a != b), 0)
        return same if same * len(self.patches) >= WORTH_SHARING and not self.model.unshared else 0

    def walks(self, patches: Sequence[Patch], limit: int, shared: int) -> Walks:
        return one_pass(self.model, self.source, self.target, patches, limit, shared)

    def record(self, patches: Iterable[Patch]) -> tuple[mx.array, Recording]:
        return intercept.record(self.model, self.source, list(dict.fromkeys(patch.point for patch in patches)))

    def run(self, patch: Patch, recording: Recording) -> mx.array:
        return intercept.replace(self.model, self.target, [patch.point], recording, patch.positions)


@dataclass
class Runs:
    """What a strategy makes of a plan: the two unpatched rows, and the patched ones, each when it is ready."""

    source: mx.array
    target: mx.array
    cells: Iterable[tuple[Patch, mx.array]]
    strategy: str
    memory: Memory | None = None
    """What was planned; None for runs that MLX does not make."""
    meter: Meter = field(default_factory=Meter)
    fallback: str | None = None
    proven_on: str = ""
    """The day of the remembered proof that these runs rely on, as in 2026-11-29, if they rely on one."""


def walk(model: LoadedModel, question: Question) -> Walk:
    """Run both prompts and return the sweep, still to be walked.

    Raises AlignmentError, UnknownName or UsageError before the first forward pass where the question cannot be asked.
    """
    plan = _plan(model, question, with_values(model, question, check_question(model, question)))
    patches, noising = plan.patches, question.sweep.direction is Direction.NOISING
    runs = _runs(plan, question.sweep.strategy)
    clean, corrupted = (runs.target, runs.source) if noising else (runs.source, runs.target)
    patched = ((patch.site, row) for patch, row in runs.cells)
    return Walk(clean, corrupted, tuple(patch.site for patch in patches), patched, runs)


def forecast(model: LoadedModel, question: Question) -> Memory:
    """Return what a sweep will take, before any forward pass. Raises what `walk` raises."""
    return _plan(model, question, check_question(model, question)).memory


def _plan(model: LoadedModel, question: Question, points: Sequence[HookPoint]) -> Plan:
    sweep, target = question.sweep, question.target
    patches = patches_of(points, sweep.positions, len(target))
    return Plan(model, question.source, target, patches, _memory(model, target, patches, sweep))


def _memory(model: LoadedModel, target: Sequence[int], patches: Sequence[Patch], sweep: Sweep) -> Memory:
    if sweep.strategy == "stepwise":
        points = len({patch.point for patch in patches})
        return plan_stepwise(model, len(target), len(patches), points, sweep.memory)
    return plan_memory(model, len(target), len(patches), sweep.memory)


def _runs(plan: Plan, strategy: str) -> Runs:
    meter = Meter()
    # Equal prompts have nothing to recover; there is no need to walk for that.
    if strategy == "stepwise" or plan.source == plan.target:
        return stepwise(plan)
    trusted = strategy == "one-pass"
    wanted = _Wanted.of(plan, plan.shared, trusted)
    if not trusted and len(plan.patches) <= len(wanted.cells):
        return stepwise(plan)
    if plan.shared:
        try:
            return _one_pass(plan, plan.shared, meter, wanted)
        except OnePassImpossible as error:
            plan.model.unshared = str(error)
            wanted = _Wanted.of(plan, 0, trusted)
    try:
        return _one_pass(plan, 0, meter, wanted)
    except OnePassImpossible as error:
        return replace(stepwise(plan), fallback=str(error))


@dataclass(frozen=True)
class _Wanted:
    """What has to be proven of a sweep, at which cells, and the proofs that are remembered."""

    cells: Sequence[Patch] = ()
    proofs: Proofs | None = None
    known: frozenset[str] = frozenset()
    """Components with a remembered proof, which this sweep relies on."""

    @classmethod
    def of(cls, plan: Plan, shared: int, trusted: bool) -> _Wanted:
        open_ones = () if trusted else missing(plan.model, plan.patches, shared)
        if not open_ones:
            return cls()
        proofs = Proofs(plan.model, open_ones, len(plan.target), shared)
        known = proofs.known()
        left = [patch for patch in open_ones if patch.point.component not in known]
        return cls(unproven(plan.model, left, shared), proofs, known)

    def keep(self) -> None:
        if self.proofs and self.cells:
            self.proofs.keep(frozenset(patch.point.component for patch in self.cells))


def _one_pass(plan: Plan, shared: int, meter: Meter, wanted: _Wanted) -> Runs:
    walks = plan.walks(plan.patches, plan.memory.rows - BASE_ROWS, shared)
    ends, rows = next(walks)
    _prove(plan, wanted.cells, ends, rows, shared)
    if shared and not wanted.known:
        prove_sharing(plan.model, plan.target, ends)
    wanted.keep()
    runs = Runs(ends[0], ends[1], (), "one-pass", plan.memory, meter)
    runs.proven_on = wanted.proofs.day if wanted.proofs else ""
    runs.cells = _walked(plan, runs, rows, walks)
    return runs


def _walked(plan: Plan, runs: Runs, rows: dict[Patch, mx.array], walks: Walks) -> Iterator[tuple[Patch, mx.array]]:
    """Yield the rows of one walk after the other; should a later one fail, the rest goes stepwise."""
    done = set(rows)
    yield from _drained(rows)
    try:
        for _, more in walks:
            done |= set(more)
            yield from _drained(more)
    except OnePassImpossible as error:
        runs.strategy, runs.fallback = (
            "stepwise",
            f"after {len(done)} of {number_of(len(plan.patches), 'cell')}: {error}",
        )
        left = replace(plan, patches=tuple(patch for patch in plan.patches if patch not in done))
        yield from stepwise(left).cells


def _drained(rows: dict[Patch, mx.array]) -> Iterator[tuple[Patch, mx.array]]:
    """Yield the rows and keep none: the next walk needs the memory."""
    for patch in list(rows):
        yield patch, rows.pop(patch)


def stepwise(plan: Plan) -> Runs:
    """One forward pass for each cell, run when asked: slow, and obviously right. The reference for everything else."""
    meter, points = Meter(), len({patch.point for patch in plan.patches})
    source, recording = plan.record(plan.patches)
    target = intercept.forward(plan.model, plan.target)
    cells = ((patch, plan.run(patch, recording)) for patch in plan.patches)
    memory = plan_stepwise(plan.model, len(plan.target), len(plan.patches), points, plan.memory.budget)
    return Runs(source, target, cells, "stepwise", memory, meter)


def _prove(plan: Plan, chosen: Sequence[Patch], ends: mx.array, rows: Mapping[Patch, mx.array], shared: int) -> None:
    if chosen and not all(patch in rows for patch in chosen):
        # The sweep takes several walks; what is proven must be proven before the first number leaves.
        ends, rows = next(plan.walks(chosen, len(chosen), shared))
    prove(plan.model, plan.source, plan.target, ends, {patch: rows[patch] for patch in chosen}, shared)


def check_question(model: LoadedModel, question: Question) -> list[HookPoint]:
    """Return the hook points of a question that can be asked, before any forward pass."""
    for metric in question.metrics:
        metric_named(metric)
    if question.sweep.strategy not in STRATEGIES:
        raise UnknownName("strategy", question.sweep.strategy, STRATEGIES)
    check_value(question)
    check_alignment(question.clean, question.corrupted)
    if question.sweep.positions != "each":
        resolve_positions(question.sweep.positions, len(question.clean.ids))
    return resolve(model, question.sweep)


def check_alignment(clean: Tokens, corrupted: Tokens) -> None:
    """Raise AlignmentError when the prompts differ in length.

    Without this, a whole-residual patch reads 100 % and a one-token prompt is broadcast over the other.
    """
    if found := misalignment(clean, corrupted):
        raise AlignmentError(found)


def misalignment(clean: Tokens, corrupted: Tokens) -> Finding | None:
    """Return the finding about prompts that differ in length: both tokenizations, and where they first differ."""
    if len(clean.ids) == len(corrupted.ids):
        return None
    pairs = zip(clean.ids, corrupted.ids, strict=False)
    first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(clean.ids), len(corrupted.ids)))
    return Finding(
        "ALN001",
        f"clean is {number_of(len(clean.ids), 'token')} {_quoted(clean)}, corrupted is {len(corrupted.ids)} "
        f"{_quoted(corrupted)}; they first differ at position {first}",
        evidence={"clean": len(clean.ids), "corrupted": len(corrupted.ids), "first_difference": first},
    )


def _quoted(tokens: Tokens) -> str:
    return "[" + " ".join(repr(text) for text in tokens.texts) + "]"
