"""A zoo of engines: a plain one that is right, and the same with one planted defect each.

They are functions as `docs/engines.md` asks for (`defects:sound`), written without the harness: NumPy in float64, and a
class swapped on the module that is patched.
"""

from __future__ import annotations

from contextlib import contextmanager

import mlx.core as mx
import numpy as np

DECLARED = {"units": "percent", "metrics": ["l2", "mse", "cosine"], "components": ["resid_post", "paths"]}


class Engine:
    """Right in every respect. What a defect changes is a method."""

    harness = DECLARED

    def __call__(self, model, clean, corrupted, component, layers, metric):
        self.refuse(model, clean, corrupted, component, layers, metric)
        clean_row, corrupted_row = self.unpatched(model, clean, component), self.unpatched(model, corrupted, component)
        baseline = self.distance(metric, clean_row, corrupted_row)
        found = {}
        for layer in layers:
            row = self.patched(model, clean, corrupted, component, layer)
            found[layer] = self.recovery(baseline, self.distance(metric, clean_row, row))
        return self.reply(baseline, found)

    def reply(self, baseline, found):
        return {"baseline": baseline, "recoveries": found}

    def refuse(self, model, clean, corrupted, component, layers, metric):
        if len(clean) != len(corrupted):
            raise ValueError("prompts of unequal length")
        if metric not in DECLARED["metrics"]:
            raise ValueError(f"unknown metric {metric}")
        for layer in layers:
            self.module(model, layer, component)

    def unpatched(self, model, ids, component):
        return self.forward(model, ids)

    def forward(self, model, ids):
        return model(mx.array([ids]))[0, -1]

    def module(self, model, layer, component):
        found = model.layers[layer]
        for name in () if component == "resid_post" else component.split("."):
            found = found[int(name)] if name.isdigit() else getattr(found, name)
        return found

    def patched(self, model, clean, corrupted, component, layer):
        module, kept = self.module(model, layer, component), []
        with self.tapped(module, lambda out: kept.append(self.keep(out)) or out):
            self.forward(model, clean)
        with self.tapped(module, lambda out: self.put(kept, out)):
            return self.forward(model, corrupted)

    def keep(self, out):
        return mx.array(out)

    def put(self, kept, out):
        return kept.pop(0)

    @contextmanager
    def tapped(self, module, edit):
        original = type(module)
        try:
            module.__class__ = tapping(original, edit)
            yield
        finally:
            module.__class__ = original

    def distance(self, metric, clean, x):
        a, b = widened(clean), widened(x)
        kept = np.isfinite(a) | np.isfinite(b)
        a, b = a[kept], b[kept]
        with np.errstate(all="ignore"):
            if metric == "cosine":
                a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
                return float(np.sum((a - b) ** 2) / 2)
            squares = np.abs(a - b).max() ** 2 * np.sum(((a - b) / (np.abs(a - b).max() or 1)) ** 2)
            return float(np.sqrt(squares)) if metric == "l2" else float(squares / a.size)

    def recovery(self, baseline, distance):
        if not np.isfinite(baseline) or not baseline:
            return None
        return 100 * (baseline - distance) / baseline


def tapping(original, edit):
    def __call__(self, *args, **kwargs):  # noqa: N807  the name Python looks up
        out = original.__call__(self, *args, **kwargs)
        return (edit(out[0]), *out[1:]) if isinstance(out, tuple) else edit(out)

    return type(original.__name__, (original,), {"__call__": __call__})


def widened(row):
    return np.array(row.astype(mx.float32), np.float64)


# -- one defect each ---------------------------------------------------------------------------------------------------


class GuardedZero(Engine):
    """A guard turns an undefined baseline into 0 %."""

    def recovery(self, baseline, distance):
        return 100 * (baseline - distance) / baseline if baseline > 1e-10 else 0.0


class NarrowSubtraction(Engine):
    """Subtracts in the logits' own dtype, so that large halves overflow."""

    def distance(self, metric, clean, x):
        return super().distance(metric, mx.zeros_like(clean), clean - x) if metric != "cosine" else super().distance(
            metric, clean, x
        )  # fmt: skip


class NarrowSum(Engine):
    """Sums squares in the logits' own dtype: the bug of the report."""

    def distance(self, metric, clean, x):
        if metric == "cosine":
            return super().distance(metric, clean, x)
        diff = clean - x
        total = float(mx.sum(diff * diff))
        return total**0.5 if metric == "l2" else total / diff.size


class EndAligned(Engine):
    """Aligns prompts of unequal length at their ends instead of refusing them."""

    def refuse(self, model, clean, corrupted, component, layers, metric):
        super().refuse(model, clean, clean, component, layers, metric)

    def put(self, kept, out):
        value = kept.pop(0)
        shared = min(value.shape[1], out.shape[1])
        return mx.concatenate([out[:, : out.shape[1] - shared], value[:, value.shape[1] - shared :]], axis=1)


class HookNeverFires(Engine):
    """Sets `__call__` on the instance, which Python ignores."""

    def patched(self, model, clean, corrupted, component, layer):
        return self.forward(model, corrupted)


class HookFiresTwice(Engine):
    """Adds the difference of the two runs, in a hook that is registered twice."""

    def patched(self, model, clean, corrupted, component, layer):
        module, kept = self.module(model, layer, component), []
        for ids in (clean, corrupted):
            with self.tapped(module, lambda out: kept.append(mx.array(out)) or out):
                self.forward(model, ids)
        with self.tapped(module, lambda out: out + 2 * (kept[0] - kept[1])):
            return self.forward(model, corrupted)


class WrongLayer(Engine):
    """Patches the layer after the one asked for."""

    def patched(self, model, clean, corrupted, component, layer):
        return super().patched(model, clean, corrupted, component, min(layer + 1, len(model.layers) - 1))


class LastPositionOnly(Engine):
    """Says all positions and patches the last."""

    def put(self, kept, out):
        return mx.concatenate([out[:, :-1], kept.pop(0)[:, -1:]], axis=1)


class MissingLayer(Engine):
    """Leaves a layer out of its result without a word."""

    def reply(self, baseline, found):
        return super().reply(baseline, dict(list(found.items())[:-1]) if len(found) > 1 else found)


class Drifting(Engine):
    """Every answer is a little larger than the one before: state is left behind."""

    def __init__(self):
        self.asked = 0

    def reply(self, baseline, found):
        self.asked += 1
        return super().reply(baseline, {k: v if v is None else v + self.asked for k, v in found.items()})


class Leaking(Engine):
    """Each layer's patch stays in for the next layer asked for."""

    def __call__(self, model, clean, corrupted, component, layers, metric):
        self.before = []
        return super().__call__(model, clean, corrupted, component, layers, metric)

    def patched(self, model, clean, corrupted, component, layer):
        self.before.append(layer)
        rows = {}
        for earlier in self.before:
            with self.tapped(
                self.module(model, earlier, component), lambda out, e=earlier: rows.setdefault(e, mx.array(out))
            ):
                self.forward(model, clean)
        originals = [(self.module(model, e, component), type(self.module(model, e, component))) for e in self.before]
        try:
            for (module, original), earlier in zip(originals, self.before, strict=True):
                module.__class__ = tapping(original, lambda out, e=earlier: rows[e])
            return self.forward(model, corrupted)
        finally:
            for module, original in originals:
                module.__class__ = original


class Aliasing(Engine):
    """Keeps the very array a module returned, which `x += y` in the model changes later."""

    def keep(self, out):
        return out


class ConstantInMetric(Engine):
    """Adds an epsilon to every distance, so that recoveries depend on the unit of the logits."""

    def distance(self, metric, clean, x):
        return super().distance(metric, clean, x) + 0.5


class FirstTokensOnly(Engine):
    """Measures the first half of the vocabulary."""

    def distance(self, metric, clean, x):
        return super().distance(metric, clean[: clean.size // 2], x[: x.size // 2])


class MseLikeL2(Engine):
    """Reports its l2 recovery under the name of mse."""

    def distance(self, metric, clean, x):
        return super().distance("l2" if metric == "mse" else metric, clean, x)


class NoisyTrace(Engine):
    """Its interception rounds what passes through it to bfloat16."""

    def unpatched(self, model, ids, component):
        with self.tapped(model.layers[0], lambda out: out.astype(mx.bfloat16).astype(out.dtype) * 1.0078125):
            return self.forward(model, ids)


class OtherTokens(Engine):
    """Puts a token of its own before every prompt."""

    def forward(self, model, ids):
        return super().forward(model, [0, *ids])


class AcceptsUnknownNames(Engine):
    """Falls back to l2, to the whole block and to the last layer where it does not know a name."""

    def refuse(self, model, clean, corrupted, component, layers, metric):
        super().refuse(model, clean, corrupted, "resid_post", [], "l2")

    def module(self, model, layer, component):
        try:
            return super().module(model, min(layer, len(model.layers) - 1), component)
        except AttributeError:
            return model.layers[min(layer, len(model.layers) - 1)]

    def distance(self, metric, clean, x):
        return super().distance(metric if metric in DECLARED["metrics"] else "l2", clean, x)


class OwnIdeaOfNames(Engine):
    """Patches the input of a nested module instead of its output."""

    def tapped(self, module, edit):
        if not hasattr(module, "weight"):
            return super().tapped(module, edit)
        return self._input_tapped(module, edit)

    @contextmanager
    def _input_tapped(self, module, edit):
        original = type(module)

        def __call__(self, x, *args):  # noqa: N807  the name Python looks up
            return original.__call__(self, edit(x) * 1.5, *args)

        try:
            module.__class__ = type(original.__name__, (original,), {"__call__": __call__})
            yield
        finally:
            module.__class__ = original


class Wrapper:
    """Not a module: `isinstance` and `parameters()` no longer see what is inside."""

    def __init__(self, inside):
        self.inside = inside

    def __call__(self, *args, **kwargs):
        return self.inside(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self.__dict__["inside"], name)


class LeavesWrappers(Engine):
    """Wraps a block for good: the numbers stay right, `isinstance` breaks."""

    def reply(self, baseline, found):
        self.model.layers[0] = Wrapper(self.model.layers[0])
        return super().reply(baseline, found)

    def __call__(self, model, clean, corrupted, component, layers, metric):
        self.model = model
        return super().__call__(model, clean, corrupted, component, layers, metric)


class LeavesClasses(Engine):
    """Gives the model and a block classes of its own for good: the numbers stay right."""

    def __call__(self, model, clean, corrupted, component, layers, metric):
        for each in (model, model.layers[0]):
            each.__class__ = tapping(type(each), lambda out: out)
        return super().__call__(model, clean, corrupted, component, layers, metric)


class Reorders(Engine):
    """Takes an entry out of the model and puts the same one in again, at the end: no number changes."""

    def reply(self, baseline, found):
        block = self.model.layers[0]
        block["self_attn"] = block.pop("self_attn")
        return super().reply(baseline, found)

    def __call__(self, model, clean, corrupted, component, layers, metric):
        self.model = model
        return super().__call__(model, clean, corrupted, component, layers, metric)


class ReordersAndChanges(Reorders):
    """Puts it in again with another value beside it."""

    def reply(self, baseline, found):
        self.model.layers[0].planted = mx.ones(1)
        return super().reply(baseline, found)


class LastCallOnly(Engine):
    """Keeps what a module returned last and puts that in at every call, in models that call it more than once."""

    def put(self, kept, out):
        return kept[-1]


class GuardedZeroAndNan(GuardedZero):
    """Two guards: one for equal runs, and one for runs that are not finite."""

    def recovery(self, baseline, distance):
        return 50.0 if not np.isfinite(baseline) else super().recovery(baseline, distance)


class ChangesParameter(Engine):
    """Casts a parameter to float32 on the way and forgets to cast it back; the values stay."""

    def reply(self, baseline, found):
        self.model.update({"planted": mx.zeros(1)})
        return super().reply(baseline, found)

    def __call__(self, model, clean, corrupted, component, layers, metric):
        self.model = model
        model.planted = mx.ones(1)
        return super().__call__(model, clean, corrupted, component, layers, metric)


class UntidyOnError(Engine):
    """Restores the class of the module it tapped on success only."""

    @contextmanager
    def tapped(self, module, edit):
        original = type(module)
        module.__class__ = tapping(original, edit)
        yield
        module.__class__ = original


class UntidyOnInterrupt(Engine):
    """Restores after an Exception, and Ctrl-C is none."""

    @contextmanager
    def tapped(self, module, edit):
        original = type(module)
        module.__class__ = tapping(original, edit)
        try:
            yield
        except Exception:
            module.__class__ = original
            raise
        module.__class__ = original


class Raising(Engine):
    """Always raises."""

    def refuse(self, *about):
        print("about to fail")
        raise RuntimeError("planted")


class Warns(Engine):
    """Prints a warning nobody reads."""

    def reply(self, baseline, found):
        print("Warning: something was skipped")
        return super().reply(baseline, found)


class Unseen(Engine):
    """Never calls the model as a whole, so that none of its runs is seen; and its logits are wrong."""

    def forward(self, model, ids):
        return mx.tanh(model.lm_head(model.model(mx.array([ids]))))[0, -1]


class StopsEarly(Engine):
    """Right; where the prompts are equal it patches nothing."""

    def __call__(self, model, clean, corrupted, component, layers, metric):
        if clean != corrupted:
            return super().__call__(model, clean, corrupted, component, layers, metric)
        rows = [self.unpatched(model, ids, component) for ids in (clean, corrupted)]
        return self.reply(self.distance(metric, *rows), dict.fromkeys(layers))


class Fraction(Engine):
    """Reports fractions while declaring percent."""

    def recovery(self, baseline, distance):
        found = super().recovery(baseline, distance)
        return None if found is None else found / 100


sound = Engine()
guarded_zero, narrow_subtraction, narrow_sum = GuardedZero(), NarrowSubtraction(), NarrowSum()
end_aligned, hook_never_fires, hook_fires_twice = EndAligned(), HookNeverFires(), HookFiresTwice()
wrong_layer, last_position_only, missing_layer = WrongLayer(), LastPositionOnly(), MissingLayer()
drifting, leaking, aliasing = Drifting(), Leaking(), Aliasing()
constant_in_metric, first_tokens_only, mse_like_l2 = ConstantInMetric(), FirstTokensOnly(), MseLikeL2()
noisy_trace, other_tokens, accepts_unknown_names = NoisyTrace(), OtherTokens(), AcceptsUnknownNames()
own_idea_of_names, leaves_wrappers, changes_parameter = OwnIdeaOfNames(), LeavesWrappers(), ChangesParameter()
leaves_classes = LeavesClasses()
reorders, reorders_and_changes, last_call_only = Reorders(), ReordersAndChanges(), LastCallOnly()
guarded_zero_and_nan = GuardedZeroAndNan()
untidy_on_error, untidy_on_interrupt = UntidyOnError(), UntidyOnInterrupt()
stops_early = StopsEarly()
raising, warning, unseen, fraction = Raising(), Warns(), Unseen(), Fraction()
