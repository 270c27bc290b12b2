"""What the answers of a model depend on beside the prompt: tried out, by taking one thing after the other away.

The drawing modules in evaluation mode, or the generators seeded; everything that a call can leave behind put back. What
makes the answers alike is the cause. Where nothing does and they are within a few roundings, it is the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from harness.intercept import generators
from harness.intercept.capture import forward
from harness.intercept.inconstancy import Cause, Inconstancy
from harness.intercept.observer import ObservedRun, bare
from harness.intercept.swap import exchanged
from harness.metrics.tolerances import Work, relative_difference, row_tolerance, same_bits
from harness.models.kept import KeptState
from harness.models.loaded import LoadedModel
from harness.vocabulary.errors import described
from harness.vocabulary.raised import refuse_device_failure, suppressed
from harness.vocabulary.words import number_of

Ids = Sequence[int]

TIMES = 8
"""Runs from which chance is judged: something that happens one time in four is missed by all of them in a tenth of the
cases, and by four times as many, which are made where a generator moved, in one of 10,000."""
MOST_NAMED, LONGEST = 3, 80


@dataclass(frozen=True)
class _Seen:
    """How many of the runs of one prompt differ from the others, by how much, and the first module that does."""

    part: str | None
    differing: int
    runs: int
    difference: float

    def told(self, cause: Cause, why: str, module: str | None, proven: bool = True) -> Inconstancy:
        other = f"give other logits, by up to {self.difference:.3g} of the largest"
        if not math.isfinite(self.difference):
            other = "are not finite where others are"
        seen = f"{self.differing} of {self.runs} runs of one prompt {other}"
        part = f"; the first part that differs is {self.part}" if self.part and self.part != module else ""
        module = module or self.part
        return Inconstancy(cause, module, f"{seen}: {why}{part}", proven, self.differing, self.runs, self.difference)


@dataclass
class Inquiry:
    """A model, what it was before its first run, and the two prompts it is asked."""

    model: LoadedModel
    kept: KeptState
    a: Ids
    b: Ids

    def explained(self, *rows: mx.array) -> Inconstancy | None:
        """Return why A, which was answered by these rows `[vocab]` among others, is answered in two ways; None where no
        two runs of it differ. The model is left as it was."""
        with self._left_as_it_is():
            drawn = generators.states()
            try:
                rows = (*rows, *self._first_of_all(), *(self._after_b() for _ in range(TIMES)))
            except Exception as error:  # noqa: BLE001  it could be run before
                refuse_device_failure(error)
                return self.broken(error)
            if generators.states() != drawn and _all_alike(rows):
                rows = (*rows, *(self._after_b() for _ in range(3 * TIMES)))
            usual = max(rows, key=lambda row: sum(same_bits(row, other) for other in rows))
            apart = [relative_difference(usual, row, equal_nan=True) for row in rows if not same_bits(usual, row)]
            if not apart:
                return None
            seen = _Seen(self._part(), len(apart), len(rows), max(apart))
            return self._draw(seen) or self._state(seen) or self._rest(seen, rows[0])

    def broken(self, error: Exception) -> Inconstancy:
        """Return what it means that A, which could be run, no longer can be."""
        with self._left_as_it_is():
            moved = self.kept.moved()
            proven = isinstance(self._fresh(self.a), ObservedRun)
        where = f" in {_listed(moved)}" if moved else ""
        message = f"state is kept from an earlier call{where}: a prompt that ran before now raises {described(error)}"
        return Inconstancy(Cause.STATE, _module_of(moved, self.model.module), message, proven, 1, 2, math.inf)

    def by_order(self, moved: Sequence[str]) -> Inconstancy | None:
        """Return what is wrong where the answer to a prompt depends on the one before it, as with a table that is made
        for the first length: of two prompts, each is asked first and second."""
        with self._left_as_it_is():
            for other in (list(self.b), [self.a[0]], [*self.a, self.a[0]]):
                for first, second in ((self.a, other), (other, self.a)):
                    alone = self._fresh(second)
                    if isinstance(alone, ObservedRun) and (found := self._ordered(moved, first, second, alone)):
                        return found
        return None

    def _ordered(self, moved: Sequence[str], first: Ids, second: Ids, alone: ObservedRun) -> Inconstancy | None:
        after, part = self._fresh(first, second), None
        if isinstance(after, Exception):
            apart, said = math.inf, f"raises {described(after)}, and asked first it answers"
        elif same_bits(after.logits, alone.logits):
            return None
        else:
            apart, part = (
                relative_difference(alone.logits, after.logits, equal_nan=True),
                after.first_call_unlike(alone),
            )
            said = f"gives logits that are off by {apart:.3g} of the largest from those it gives when asked first"
        prompt = f"a prompt of {number_of(len(second), 'token')} after another one of {len(first)}"
        message = f"state is kept from an earlier call in {_listed(moved)}: {prompt} {said}"
        return Inconstancy(Cause.STATE, _module_of(moved, self.model.module) or part, message, True, 1, 2, apart)

    # -- a random draw -------------------------------------------------------------------------------------------------

    def _draw(self, seen: _Seen) -> Inconstancy | None:
        names = self._drawing()
        if not names:
            return None
        modules = dict(self.model.module.named_modules())
        training = [modules[name] for name in names if getattr(modules[name], "training", False)]
        where = f"{names[0] or 'the model itself'} ({type(modules[names[0]]).__name__})"
        more = f", and so do {len(names) - 1} more" if len(names) > 1 else ""
        if training and self._alike(seen, lambda: _evaluating(training)):
            text = f"{where} is in training mode and draws at random{more}; call model.eval()"
            return seen.told(Cause.TRAINING, text, names[0])
        if self._alike(seen, generators.seeded):
            return seen.told(Cause.DRAW, f"{where} draws at random{more}", names[0])
        return None

    def _drawing(self) -> list[str]:
        """Return the modules in whose own call, outside of the modules in them, a generator moves."""
        found: dict[str, None] = {}
        inside: list[bool] = [False]

        def handler(name: str) -> Callable[..., Any]:
            def noting(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                before = generators.states()
                inside.append(False)
                out = call(*args, **kwargs)
                moved, by_another = before != generators.states(), inside.pop()
                if moved and not by_another:
                    found.setdefault(name)
                inside[-1] = inside[-1] or moved
                return out

            return noting

        unique = {id(module): (module, name) for name, module in reversed(self.model.module.named_modules())}
        handlers = [(module, handler(name)) for module, name in unique.values()]
        for _ in range(TIMES):
            with exchanged(self.model.module, handlers):
                forward(self.model, self.a)
            if found:
                break
        return list(found)

    # -- state, and the rest -------------------------------------------------------------------------------------------

    def _state(self, seen: _Seen) -> Inconstancy | None:
        moved = self.kept.moved()
        if not moved or not self._alike(seen, self._put_back):
            return None
        module = _module_of(moved, self.model.module)
        return seen.told(Cause.STATE, f"state is kept from an earlier call in {_listed(moved)}", module)

    def _rest(self, seen: _Seen, first: mx.array) -> Inconstancy:
        if seen.difference <= row_tolerance(Work.OTHER_BATCH, first.dtype):
            why = "a few roundings, and nothing that a call draws or leaves behind: the device is not deterministic"
            return seen.told(Cause.DEVICE, why, None)
        why = "the model draws at random, or keeps state, where it cannot be seen; or a kernel reads what nobody wrote"
        return seen.told(Cause.UNKNOWN, why, None, proven=False)

    def _alike(self, seen: _Seen, without: Callable[[], AbstractContextManager[None]]) -> bool:
        """Return whether A is answered alike without a possible cause, as often as chance has to be ruled out."""
        rows = []
        for _ in range(TIMES):
            with suppressed():
                forward(self.model, self.b)
            with without():
                rows.append(forward(self.model, self.a))
        return _all_alike(rows)

    @contextmanager
    def _put_back(self) -> Iterator[None]:
        self.kept.put_back()
        yield

    def _fresh(self, *prompts: Ids) -> ObservedRun | Exception:
        """Run prompts one after the other, as on a model that was never run, and return the run of the last one."""
        self.kept.put_back()
        with suppressed():
            for prompt in prompts[:-1]:
                forward(self.model, prompt)
        try:
            return bare(self.model.module, prompts[-1])
        except Exception as error:  # noqa: BLE001  that it raises is the answer
            refuse_device_failure(error)
            return error

    def _first_of_all(self) -> Iterator[mx.array]:
        """Run A on the model as it was before its first run, and leave it as it is now."""
        now = KeptState(self.model.module)
        self.kept.put_back()
        with suppressed():
            yield forward(self.model, self.a)
        now.put_back()

    def _after_b(self) -> mx.array:
        with suppressed():
            forward(self.model, self.b)
        return forward(self.model, self.a)

    def _part(self) -> str | None:
        """Return the first module at which two runs of A part. They are watched: no row of theirs is judged by."""
        runs = [self._fresh(self.a), *(self._fresh(self.b, self.a) for _ in range(TIMES))]
        seen = [run for run in runs if isinstance(run, ObservedRun)]
        return next((part for run in seen[1:] if (part := run.first_call_unlike(seen[0]))), None)

    @contextmanager
    def _left_as_it_is(self) -> Iterator[None]:
        now = KeptState(self.model.module)
        with generators.restored():
            yield
        now.put_back()


def _all_alike(rows: Sequence[mx.array]) -> bool:
    return all(same_bits(rows[0], row) for row in rows)


@contextmanager
def _evaluating(modules: Sequence[Any]) -> Iterator[None]:
    for module in modules:
        module._set_training_mode(False)
    try:
        yield
    finally:
        for module in modules:
            module._set_training_mode(True)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(name[:LONGEST] + "..." * (len(name) > LONGEST) for name in names[:MOST_NAMED]) + more


def _module_of(names: Sequence[str], root: Any) -> str | None:
    """Return the innermost module that the first name of them all lies in."""
    modules = {name for name, _ in root.named_modules() if name}
    for name in names:
        parts = name.replace(" (closure)", "").split(".")
        for end in range(len(parts), 0, -1):
            if ".".join(parts[:end]) in modules:
                return ".".join(parts[:end])
    return None
