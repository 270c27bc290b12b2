"""The defects of patching libraries that people have, each in a stand-in of our own.

Each differs from a right engine, `defects:sound` or `wide:sound`, in the one thing its docstring states.
"""

from __future__ import annotations

from contextlib import contextmanager

import mlx.core as mx
import numpy as np
from defects import Engine, Wrapper, widened
from wide import Wide, log_softmax


class Wrapping(Engine):
    """Puts an object around every block while it runs: `isinstance` and `in` do not see through it."""

    def forward(self, model, ids):
        with self.wrapped(model):
            return super().forward(model, ids)

    @contextmanager
    def wrapped(self, model):
        blocks = list(model.layers)
        try:
            for at, block in enumerate(blocks):
                model.layers[at] = Wrapper(block)
            yield
        finally:
            for at, block in enumerate(blocks):
                model.layers[at] = block


class WrappingModel(Wrapping):
    """Puts an object around what the model calls first, an `in` of which is answered by nobody."""

    @contextmanager
    def wrapped(self, model):
        original = type(model)
        try:
            model.__class__ = type(original.__name__, (original,), {"__contains__": lambda self, name: False})
            yield
        finally:
            model.__class__ = original


class WrappedOnInterrupt(Wrapping):
    """Takes its wrappers off after an Exception, and Ctrl-C is none."""

    @contextmanager
    def wrapped(self, model):
        blocks = list(model.layers)
        for at, block in enumerate(blocks):
            model.layers[at] = Wrapper(block)
        try:
            yield
        except Exception:
            model.layers[:] = blocks
            raise
        model.layers[:] = blocks


class Reordering(Engine):
    """Takes the attention out of a block and puts it back behind the other entries."""

    def forward(self, model, ids):
        block = model.layers[0]
        block["self_attn"] = block.pop("self_attn")
        return super().forward(model, ids)


class PositionalOnly(Engine):
    """Hands a module its positional arguments, and knows the names of three others."""

    @contextmanager
    def tapped(self, module, edit):
        original = type(module)

        def __call__(self, x, mask=None, cache=None):  # noqa: N807  the name Python looks up
            return edit(original.__call__(self, x, mask=mask, cache=cache))

        try:
            module.__class__ = type(original.__name__, (original,), {"__call__": __call__})
            yield
        finally:
            module.__class__ = original


class LastCall(Engine):
    """Keeps the last output of a module, and puts it in whenever the module is called."""

    def put(self, kept, out):
        return kept[-1]


def declaring(**facts):
    return {"units": "percent", "metrics": ["l2"], "components": ["mlp_out"], **facts}


class OwnNamesOnly(Engine):
    """Leaves out every layer in which its own word for a component is not an attribute."""

    harness = declaring(components=["mlp", "resid_post"])

    def __call__(self, model, clean, corrupted, component, layers, metric):
        self.refuse(model, clean, corrupted, component, [], metric)
        having = [layer for layer in layers if component == "resid_post" or self.has(model.layers[layer], component)]
        return super().__call__(model, clean, corrupted, component, having, metric)

    def has(self, block, component):
        return hasattr(block, component.split(".")[0])


class ZeroWhereAbsent(OwnNamesOnly):
    """The same, with 0 % for the layers it leaves out, for any layer and for any name."""

    def __call__(self, model, clean, corrupted, component, layers, metric):
        known = [layer for layer in layers if layer < len(model.layers)]
        found = super().__call__(model, clean, corrupted, component, known, metric)
        return {"baseline": found["baseline"], "recoveries": {**dict.fromkeys(layers, 0.0), **found["recoveries"]}}


class UsualPlaceOnly(Engine):
    """Looks for the blocks in `model.model.layers`, and for no others."""

    def __call__(self, model, clean, corrupted, component, layers, metric):
        inner = getattr(model, "model", None)
        return super().__call__(model, clean, corrupted, component, layers if hasattr(inner, "layers") else [], metric)


class Formula(Engine):
    """An engine whose distance is of float32."""

    def distance(self, metric, clean, x):
        a, b = clean.astype(mx.float32), x.astype(mx.float32)
        return float(getattr(self, metric)(a, b))

    def recovery(self, baseline, distance):
        return 100 * (baseline - distance) / baseline if np.isfinite(baseline) and baseline else None

    def l2(self, a, b):
        return np.linalg.norm(np.array(a - b, np.float64))

    def mse(self, a, b):
        return np.mean(np.array(a - b, np.float64) ** 2)

    def cosine(self, a, b):
        return Engine.distance(self, "cosine", a, b)


class NarrowSquares(Formula):
    """Sums squares in float32, and takes their mean where that overflows."""

    def l2(self, a, b):
        total = mx.sum(mx.square(a - b))
        return mx.sqrt(mx.mean(mx.square(a - b))) * a.size**0.5 if mx.isinf(total) else mx.sqrt(total)

    def recovery(self, baseline, distance):
        return 100 * (baseline - distance) / baseline if baseline else None


class OneMinusCosine(Formula):
    """Takes the cosine distance as 1 - cos, in float32."""

    def cosine(self, a, b):
        return 1 - mx.sum(a * b) / mx.sqrt(mx.sum(a * a) * mx.sum(b * b))


class NaNOfSuppressed(Formula):
    """Subtracts -inf from -inf where an id is ruled out in both runs."""

    def l2(self, a, b):
        return mx.linalg.norm(a - b)


class AbsoluteGuard(Formula):
    """Takes a distance below 1e-10 for none."""

    def recovery(self, baseline, distance):
        return 100 * (baseline - distance) / baseline if baseline > 1e-10 else 0.0


class PositiveGap(Wide):
    """Takes a difference of logits that falls from the corrupted to the clean run for none."""

    harness = declaring(metrics=["logit_diff"])

    def recovery(self, clean, corrupted, patched):
        return 0.0 if clean - corrupted < 1e-8 else super().recovery(clean, corrupted, patched)


class HeadsOfTheOutput(Wide):
    """Cuts the output of the attention into heads, where heads are mixed already."""

    harness = declaring(components=["mlp_out", "z"])

    def patched(self, model, source, target, component, layer, where):
        return super().patched(model, source, target, "attn_out" if component == "z" else component, layer, where)


class HeadsEverywhere(Wide):
    """Patches a head at all positions, whichever are asked for."""

    harness = declaring(components=["mlp_out", "z"], positions=["all", "list"])

    def patched(self, model, source, target, component, layer, where):
        return super().patched(model, source, target, component, layer, "all" if component == "z" else where)


class ResidualNeverPatched(Wide):
    """Registers its patch of the residual stream under a name that no module has."""

    harness = declaring(components=["resid_pre", "resid_post"])

    def patched(self, model, source, target, component, layer, where):
        return self.run(model, target)


class FromTheEndIgnored(Wide):
    """Leaves out positions that are counted from the end, `last` among them."""

    harness = declaring(positions=["all", "last"])

    def positioned(self, new, old, where):
        return old if where == "last" else new


class NegativeDivergence(Wide):
    """Returns the negative divergence itself, in percent, and calls it a recovery."""

    harness = declaring(metrics=["kl_divergence"])

    def recovery(self, clean, corrupted, patched):
        return -100 * patched


class Divergence(Engine):
    """Right, and of the divergence alone."""

    harness = declaring(metrics=["kl_divergence"], components=["paths"])

    def refuse(self, model, clean, corrupted, component, layers, metric):
        super().refuse(model, clean, corrupted, component, layers, "l2" if metric == "kl_divergence" else "")

    def distance(self, metric, clean, x):
        a, b = log_softmax(widened(clean)), log_softmax(widened(x))
        return float(np.sum(np.exp(a) * (self.log(a) - self.log(b))))

    def log(self, log_probabilities):
        return log_probabilities


class Clipped(Divergence):
    """Adds 1e-12 to every probability before taking its logarithm, so that no divergence exceeds 27.6 nats."""

    def log(self, log_probabilities):
        return np.log(np.exp(log_probabilities) + 1e-12)


wrapping, wrapping_model, wrapped_on_interrupt = Wrapping(), WrappingModel(), WrappedOnInterrupt()
reordering, positional_only, last_call = Reordering(), PositionalOnly(), LastCall()
own_names_only, zero_where_absent, usual_place_only = OwnNamesOnly(), ZeroWhereAbsent(), UsualPlaceOnly()
narrow_squares, one_minus_cosine, nan_of_suppressed = NarrowSquares(), OneMinusCosine(), NaNOfSuppressed()
absolute_guard, clipped, negative_divergence = AbsoluteGuard(), Clipped(), NegativeDivergence()
positive_gap = PositiveGap()
heads_of_the_output, heads_everywhere = HeadsOfTheOutput(), HeadsEverywhere()
residual_never_patched, from_the_end_ignored = ResidualNeverPatched(), FromTheEndIgnored()
