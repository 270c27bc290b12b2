"""Right engines that make their runs in other ways than one plain call of the model for each, and one wrong thing each.

Cached       reads what both prompts begin with once, through mlx-lm's cache, and goes on from copies of it
Trimmed      the same through one cache, cut back after every run
Batched      all patched runs are the rows of one forward pass, beside the two unpatched ones
Lean         the same rows, of a pass without unpatched ones
OwnForward   calls the embedding, the blocks, the norm and the head itself, never the model
Resumed      runs the model as a whole twice, and the blocks from the patched one on by itself
WarmedUp     runs the model on other tokens once, for nothing
"""

from __future__ import annotations

import copy

import mlx.core as mx
from defects import widened
from mlx_lm.models.base import create_attention_mask
from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache
from wide import DECLARED, Wide


class Cached(Wide):
    def __call__(self, model, clean, corrupted, component, layers, metric, positions, direction, answers):
        self.check(model, clean, corrupted, layers, metric)
        self.prefix = self.shared(clean, corrupted)
        self.cache = make_prompt_cache(model)
        if self.prefix:
            model(mx.array([self.prefix]), cache=self.cache)
        return Wide.__call__(self, model, clean, corrupted, component, layers, metric, positions, direction, answers)

    def shared(self, clean, corrupted):
        pairs = list(zip(clean[:-1], corrupted[:-1], strict=True))
        return clean[: next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))]

    def run(self, model, ids):
        rest = ids[len(self.prefix) :]
        return widened(model(mx.array([rest]), cache=copy.deepcopy(self.cache))[0, -1])

    def positioned(self, new, old, where):
        if isinstance(where, str):
            return Wide.positioned(self, new, old, where)
        # What comes before is the same in both runs.
        return Wide.positioned(self, new, old, [at - len(self.prefix) for at in where if at >= len(self.prefix)])


class Trimmed(Cached):
    def run(self, model, ids):
        rest = ids[len(self.prefix) :]
        row = widened(model(mx.array([rest]), cache=self.cache)[0, -1])
        trim_prompt_cache(self.cache, len(rest))
        return row


class Batched(Wide):
    unpatched = 2

    def __call__(self, model, clean, corrupted, component, layers, metric, positions, direction, answers):
        self.check(model, clean, corrupted, layers, metric)
        measure = self.measure(metric, answers)
        source, target = (clean, corrupted) if direction == "denoising" else (corrupted, clean)
        length = len(clean)
        places = [(k, *part) for k in layers for part in self.parts(model, component, positions, length, k)]
        rows = self.forward(model, source, target, component, places, positions)
        ends = rows[:2] if direction == "denoising" else rows[1::-1]
        self.rows = ends
        found = {
            tuple(each for each in place if each is not None): self.cell(measure, *ends, row)
            for place, row in zip(places, rows[2:], strict=True)
        }
        return self.reply({key if len(key) > 1 else key[0]: value for key, value in found.items()})

    def forward(self, model, source, target, component, places, positions):
        """Return the rows of the source, of the target, and of a patched run for each place."""
        modules = {layer: self.module(model, component, layer) for layer, *_ in places}
        tapped, classes = {id(module): module for module in modules.values()}, {}
        for layer, module in modules.items():
            classes[id(module)] = type(module)
            at = [(number, place) for number, place in enumerate(places) if place[0] == layer]
            module.__class__ = self.tap(module, at, component in ("resid_pre", "z"), model, positions)
        try:
            ids = [source, target, *[target] * len(places)]
            return [widened(row) for row in model(mx.array(ids))[:, -1]]
        finally:
            for key, original in classes.items():
                tapped[key].__class__ = original

    def tap(self, module, places, on_input, model, positions):
        original, engine = type(module), self

        def edit(x):
            rows = [x[i : i + 1] for i in range(x.shape[0])]
            for number, (layer, token, head) in places:
                engine.head, engine.heads = head, getattr(model.layers[layer].self_attn, "n_heads", 1)
                where = positions if token is None else [token]
                rows[2 + number] = engine.mixed(rows[0], rows[2 + number], where)
            return mx.concatenate(rows)

        def call(self, x, *args, **kwargs):
            if on_input:
                return original.__call__(self, edit(x), *args, **kwargs)
            return edit(original.__call__(self, x, *args, **kwargs))

        return type(original.__name__, (original,), {"__call__": call})


class Lean(Batched):
    """The unpatched rows come from runs of their own; the source's activations as well."""

    def forward(self, model, source, target, component, places, positions):
        on_input = component in ("resid_pre", "z")
        kept, modules = {}, {layer: self.module(model, component, layer) for layer, *_ in places}
        first = self.with_taps(
            modules, lambda layer: lambda x: kept.setdefault(layer, mx.array(x)), on_input, model, [source]
        )[0]
        at = {layer: [(n, place) for n, place in enumerate(places) if place[0] == layer] for layer in modules}

        def edited(layer):
            def edit(x):
                rows = [x[i : i + 1] for i in range(x.shape[0])]
                for number, (_, token, head) in at[layer]:
                    self.head, self.heads = head, getattr(model.layers[layer].self_attn, "n_heads", 1)
                    rows[number] = self.mixed(kept[layer], rows[number], positions if token is None else [token])
                return mx.concatenate(rows)

            return edit

        patched = self.with_taps(modules, edited, on_input, model, [target] * len(places))
        return [first, self.run(model, target), *patched]

    def with_taps(self, modules, edits, on_input, model, ids):
        classes = {layer: type(module) for layer, module in modules.items()}
        for layer, module in modules.items():
            module.__class__ = self.tapped_class(classes[layer], edits(layer), on_input)
        try:
            return [widened(row) for row in model(mx.array(ids))[:, -1]]
        finally:
            for layer, module in modules.items():
                module.__class__ = classes[layer]

    def tapped_class(self, original, edit, on_input):
        def call(self, x, *args, **kwargs):
            if on_input:
                return original.__call__(self, edit(x), *args, **kwargs)
            return edit(original.__call__(self, x, *args, **kwargs))

        return type(original.__name__, (original,), {"__call__": call})


def embedded(model, ids):
    h = model.model.embed_tokens(mx.array([ids]))
    return h * model.args.hidden_size**0.5 if model.model_type == "gemma2" else h


def through(model, h, first=0):
    mask = create_attention_mask(h, None, return_array=model.model_type == "gemma2")
    for block in model.layers[first:]:
        h = block(h, mask, None)
    return h


def headed(model, h):
    h = model.model.norm(h)
    if model.model_type == "gemma2":
        cap = model.final_logit_softcapping
        return mx.tanh(model.model.embed_tokens.as_linear(h) / cap) * cap
    return model.model.embed_tokens.as_linear(h) if model.args.tie_word_embeddings else model.lm_head(h)


class OwnForward(Wide):
    def run(self, model, ids):
        return widened(headed(model, through(model, embedded(model, ids)))[0, -1])


class Resumed(Wide):
    """Runs the model as a whole for the unpatched runs, twice for the target, and otherwise goes on from a block."""

    def __call__(self, model, clean, corrupted, component, layers, metric, positions, direction, answers):
        self.check(model, clean, corrupted, layers, metric)
        self.whole = True
        Wide.run(self, model, corrupted if direction == "denoising" else clean)
        return Wide.__call__(self, model, clean, corrupted, component, layers, metric, positions, direction, answers)

    def run(self, model, ids):
        return Wide.run(self, model, ids) if self.whole else OwnForward.run(self, model, ids)

    def patched(self, model, source, target, component, layer, where):
        self.whole = False
        return Wide.patched(self, model, source, target, component, layer, where)


class WarmedUp(Wide):
    def __call__(self, model, clean, corrupted, component, layers, metric, positions, direction, answers):
        self.check(model, clean, corrupted, layers, metric)
        Wide.run(self, model, [1, 2])
        return Wide.__call__(self, model, clean, corrupted, component, layers, metric, positions, direction, answers)


WAYS = (Cached, Trimmed, Batched, Lean, OwnForward, Resumed, WarmedUp)


# -- one wrong thing each ----------------------------------------------------------------------------------------------


def next_layer(self, model, component, layer):
    return Wide.module(self, model, component, (layer + 1) % len(model.layers))


def other_tokens(way):
    """Return a class that runs each prompt behind a token that it does not begin with."""

    class Other(way):
        def __call__(self, model, clean, corrupted, component, layers, metric, positions, direction, answers):
            others = [2, *clean[1:]], [2, *corrupted[1:]]
            return way.__call__(self, model, *others, component, layers, metric, positions, direction, answers)

    return Other


def scaled(self, clean, corrupted, patched):
    right = Wide.recovery(self, clean, corrupted, patched)
    return None if right is None else 0.6 * right


MISTAKES = {
    "layer": lambda way: type("NextLayer", (way,), {"module": next_layer}),
    "tokens": other_tokens,
    "metric": lambda way: type("Scaled", (way,), {"recovery": scaled}),
}
_NARROW = {**DECLARED, "metrics": ["l2"], "components": ["mlp_out"], "positions": ["all"]}
for _way in WAYS:
    for _name, _make in MISTAKES.items():
        globals()[f"{_way.__name__.lower()}_{_name}"] = type("Narrow", (_make(_way),), {"harness": _NARROW})()
    globals()[f"{_way.__name__.lower()}_wide"] = _way()
    globals()[f"{_way.__name__.lower()}_narrow"] = type("Narrow", (_way,), {"harness": _NARROW})()
