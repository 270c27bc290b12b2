"""An engine that estimates by gradients, right, and the same wrong in one thing each (`estimating:sound`)."""

from __future__ import annotations

import mlx.core as mx
from defects import tapping

DECLARED = {"units": "percent", "metrics": ["logit_diff"], "components": ["paths"], "estimate": True}


class Estimating:
    """Attribution patching of one module at a time, without the harness."""

    harness = DECLARED
    factor, shift = 1.0, 0

    def __call__(self, model, clean, corrupted, component, layers, metric, answers):
        if len(clean) != len(corrupted):
            raise ValueError("prompts of unequal length")
        if metric != "logit_diff":
            raise ValueError(f"unknown metric {metric}")
        if max(layers) >= len(model.layers):
            raise ValueError(f"no layer {max(layers)}")
        gap = self.score(model, clean, answers) - self.score(model, corrupted, answers)
        return {layer: self.cell(model, clean, corrupted, component, layer, answers) / gap.item() for layer in layers}

    def score(self, model, ids, answers):
        row = model(mx.array([ids]))[0, -1].astype(mx.float32)
        return row[answers.answer] - row[answers.wrong]

    def cell(self, model, clean, corrupted, component, layer, answers):
        module = model.layers[(layer + self.shift) % len(model.layers)]
        for name in component.split("."):
            module = getattr(module, name)
        kept = []
        for ids in (clean, corrupted):
            self.tapped(module, lambda x: kept.append(mx.array(x)) or x, model, ids, answers)
        slope = mx.grad(lambda x: self.tapped(module, lambda _: x, model, self.at(clean, corrupted), answers))(kept[1])
        return 100 * self.factor * self.summed(slope * self.change(*kept)).item()

    def tapped(self, module, edit, model, ids, answers):
        original = type(module)
        try:
            module.__class__ = tapping(original, edit)
            return self.score(model, ids, answers)
        finally:
            module.__class__ = original

    def at(self, clean, corrupted):
        return corrupted

    def change(self, clean, corrupted):
        return clean - corrupted

    def summed(self, product):
        return mx.sum(product)


def engine(**changed):
    return type("Estimating", (Estimating,), changed)()


sound = Estimating()
tenth_too_small = engine(factor=0.9)
next_layer = engine(shift=1)
activation_for_change = engine(change=lambda self, clean, corrupted: clean)
last_token_only = engine(summed=lambda self, product: mx.sum(product[:, -1]))
other_sign = engine(factor=-1.0)
WRONG = ("tenth_too_small", "next_layer", "activation_for_change", "last_token_only", "other_sign")
