"""An engine that declares everything, right in all of it, and the same wrong in exactly one thing each.

Functions as `docs/engines.md` asks for (`wide:sound`), written without the harness: NumPy in float64 over the rows of
logits, and a class swapped on the module that is patched.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np
from defects import tapping, widened

from harness import Unsupported

METRICS = ["l2", "mse", "cosine", "kl_divergence", "logit_diff", "log_prob"]
DECLARED = {
    "units": "percent",
    "metrics": METRICS,
    "components": ["resid_pre", "resid_post", "attn_out", "mlp_out", "z", "paths"],
    "positions": ["all", "last", "list", "each"],
    "directions": ["denoising", "noising"],
}
PATHS = {
    "attn_out": "self_attn.o_proj",
    "z": "self_attn.o_proj",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "mlp_out": "mlp.down_proj",
    "mlp_post": "mlp.down_proj",
}
INPUTS = ("resid_pre", "z", "mlp_post")


def heads_in(model, layer, component):
    """Return how many heads a component has."""
    attention = getattr(model.layers[layer], "self_attn", None)
    return getattr(attention, "n_kv_heads" if component in ("k", "v") else "n_heads", 1)


class Wide:
    """Right in every respect. What a mistake changes is a method."""

    harness = DECLARED

    def __call__(self, model, clean, corrupted, component, layers, metric, positions, direction, answers):
        self.check(model, clean, corrupted, layers, metric)
        measure = self.measure(metric, answers)
        rows = self.rows = self.run(model, clean), self.run(model, corrupted)
        source, target = (clean, corrupted) if direction == "denoising" else (corrupted, clean)
        found = {}
        for layer in layers:
            for token, head in self.parts(model, component, positions, len(clean), layer):
                where = positions if token is None else [token]
                self.head, self.heads = head, heads_in(model, layer, component)
                row = self.patched(model, source, target, component, layer, where)
                key = tuple(each for each in (layer, token, head) if each is not None)
                found[key] = self.cell(measure, *rows, row)
        return self.reply({key if len(key) > 1 else key[0]: value for key, value in found.items()})

    def cell(self, measure, clean, corrupted, row):
        return self.recovery(measure(clean, clean), measure(clean, corrupted), measure(clean, row))

    def parts(self, model, component, positions, length, layer):
        heads = range(heads_in(model, layer, component)) if component in ("z", "q", "k", "v") else (None,)
        return [(token, head) for token in self.tokens(positions, length) for head in heads]

    def check(self, model, clean, corrupted, layers, metric):
        if len(clean) != len(corrupted):
            raise ValueError("prompts of unequal length")
        if metric not in METRICS:
            raise ValueError(f"unknown metric {metric}")
        if max(layers) >= len(model.layers):
            raise ValueError(f"no layer {max(layers)}")

    def tokens(self, positions, length):
        return range(length) if positions == "each" else (None,)

    def reply(self, found):
        return found

    def run(self, model, ids):
        return widened(model(mx.array([ids]))[0, -1])

    def module(self, model, component, layer):
        found = model.layers[layer]
        if component in ("resid_pre", "resid_post"):
            return found
        for name in PATHS.get(component, component).split("."):
            found = getattr(found, name)
        return found

    def patched(self, model, source, target, component, layer, where):
        module, kept = self.module(model, component, layer), []
        if component in INPUTS:
            self.tapped(module, lambda x: kept.append(mx.array(x)) or x, model, source, on_input=True)
            return self.tapped(module, lambda x: self.mixed(kept[0], x, where), model, target, on_input=True)
        self.tapped(module, lambda x: kept.append(mx.array(x)) or x, model, source)
        return self.tapped(module, lambda x: self.mixed(kept[0], x, where), model, target)

    def tapped(self, module, edit, model, ids, on_input=False):
        original = type(module)

        def on_the_way_in(self, x, *args, **kwargs):
            return original.__call__(self, edit(x), *args, **kwargs)

        changed = type(original.__name__, (original,), {"__call__": on_the_way_in})
        try:
            module.__class__ = changed if on_input else tapping(original, edit)
            return self.run(model, ids)
        finally:
            module.__class__ = original

    def mixed(self, new, old, where):
        if self.head is not None:
            width = old.shape[-1] // self.heads
            kept = slice(self.head * width, (self.head + 1) * width)
            part = self.positioned(new[..., kept], old[..., kept], where)
            return mx.concatenate([old[..., : kept.start], part, old[..., kept.stop :]], axis=-1)
        return self.positioned(new, old, where)

    def positioned(self, new, old, where):
        if where == "all":
            return new
        at = [-1] if where == "last" else list(where)
        out = np.array(old.astype(mx.float32))
        out[:, at] = np.array(new.astype(mx.float32))[:, at]
        return mx.array(out).astype(old.dtype)

    def measure(self, metric, answers):
        return lambda clean, x: METRIC[metric](clean, x, answers)

    def recovery(self, clean, corrupted, patched):
        return 100 * (patched - corrupted) / (clean - corrupted) if clean != corrupted else None


def log_softmax(row):
    return row - row.max() - np.log(np.exp(row - row.max()).sum())


def unit(row):
    return row / np.linalg.norm(row)


METRIC = {
    "l2": lambda a, x, _: np.linalg.norm(a - x),
    "mse": lambda a, x, _: np.mean((a - x) ** 2),
    "cosine": lambda a, x, _: np.sum((unit(a) - unit(x)) ** 2) / 2,
    "kl_divergence": lambda a, x, _: np.sum(np.exp(log_softmax(a)) * (log_softmax(a) - log_softmax(x))),
    "logit_diff": lambda a, x, ids: x[ids.answer] - x[ids.wrong],
    "log_prob": lambda a, x, ids: log_softmax(x)[ids.answer],
}


def engine(**methods):
    return type("Mistaken", (Wide,), methods)()


def declaring(**facts):
    """Return the right engine with a narrower declaration."""
    return engine(harness={**DECLARED, **facts})


def recovery(change):
    """Return an engine whose recovery is this function of the right one."""

    def changed(self, clean, corrupted, patched):
        right = Wide.recovery(self, clean, corrupted, patched)
        return None if right is None else change(right)

    return engine(recovery=changed)


def asked(**change):
    """Return an engine that is asked one thing and does another."""

    # The harness reads the names of the arguments off the signature.
    def call(self, model, clean, corrupted, component, layers, metric, positions, direction, answers):
        given = {
            "model": model, "clean": clean, "corrupted": corrupted, "component": component, "layers": layers,
            "metric": metric, "positions": positions, "direction": direction, "answers": answers,
        }  # fmt: skip
        return Wide.__call__(self, **{**given, **{key: make(given) for key, make in change.items()}})

    return engine(__call__=call)


def only(metric, change):
    """Return an engine that measures one metric otherwise."""

    def measure(self, name, answers):
        return change(answers) if name == metric else Wide.measure(self, name, answers)

    return engine(measure=measure)


sound = Wide()
logit_diff_only = declaring(metrics=["logit_diff"])
kl_only = declaring(metrics=["kl_divergence"], positions=["last"])
noising_only = declaring(directions=["noising"], metrics=["l2"])
grids_only = declaring(positions=["each"], metrics=["l2", "mse"])


def as_array(found):
    keys = [key if isinstance(key, tuple) else (key,) for key in found]
    shape = [len({key[axis] for key in keys}) for axis in range(len(keys[0]))]
    return np.array(list(found.values())).reshape(*shape, *np.shape(next(iter(found.values()))))


def as_logits(self, found):
    return {"clean": self.rows[0], "corrupted": mx.array(self.rows[1]), "logits": found}


arrays = engine(reply=lambda self, found: as_array(found))
logits_only = engine(cell=lambda self, measure, clean, corrupted, row: row, reply=as_logits)
logit_arrays = engine(
    harness={**DECLARED, "units": "fraction"},
    cell=logits_only.cell.__func__,
    reply=lambda self, found: as_logits(self, mx.array(as_array(found).astype(np.float32))),
)


def effect(self, measure, clean, corrupted, row):
    return measure(clean, row) - measure(clean, corrupted)


def with_baseline(of_ends, **facts):
    """Return an engine of scores that reports a baseline made of m(clean) and m(corrupted)."""

    def measure(self, metric, answers):
        self.measured = Wide.measure(self, metric, answers)
        return self.measured

    def reply(self, found):
        clean, corrupted = self.rows
        baseline = of_ends(self.measured(clean, clean), self.measured(clean, corrupted))
        return {"baseline": baseline, "recoveries": found}

    declared = {**DECLARED, "metrics": ["logit_diff", "log_prob", "l2"], "components": ["mlp_out"], **facts}
    return engine(harness=declared, measure=measure, reply=reply)


absolute_effects = engine(harness={**DECLARED, "units": "absolute"}, cell=effect)
absolute_for_fraction = engine(harness={**DECLARED, "units": "fraction"}, cell=effect)
absolute_for_percent = engine(cell=effect)
absolute_l2 = engine(harness={**DECLARED, "metrics": ["l2"]}, cell=effect)
absolute_reversed = engine(cell=lambda *given: -effect(*given))
fraction_for_absolute = engine(
    harness={**DECLARED, "units": "absolute"},
    recovery=lambda self, c, x, p: (p - x) / (c - x) if c != x else None,
)
gap_baseline = with_baseline(lambda clean, corrupted: clean - corrupted)
gap_of_scores = with_baseline(lambda clean, corrupted: clean - corrupted if clean else corrupted)
corrupted_baseline = with_baseline(lambda clean, corrupted: corrupted)
wrong_baseline = with_baseline(lambda clean, corrupted: 1.5 * corrupted)
other_baseline = with_baseline(lambda clean, corrupted: corrupted, baseline="gap")


def refusing(refused, **facts):
    """Return an engine whose adapter does not do what `refused` says of a component and a metric."""

    def call(self, model, clean, corrupted, component, layers, metric, positions, direction, answers):
        if refused(component, metric):
            raise Unsupported("this is not done here")
        return Wide.__call__(self, model, clean, corrupted, component, layers, metric, positions, direction, answers)

    few = {"components": ["mlp_out", "resid_post"], "metrics": ["l2", "kl_divergence"], **facts}
    return engine(__call__=call, harness={**DECLARED, **few})


refuses_a_pair = refusing(lambda component, metric: (component, metric) == ("resid_post", "kl_divergence"))
refuses_a_metric = refusing(lambda component, metric: metric == "kl_divergence")
refuses_a_component = refusing(lambda component, metric: component == "mlp_out")
refuses_everything = refusing(lambda component, metric: True)
refuses_its_own = refusing(lambda component, metric: True, architectures=["ll*"])
of_another_architecture = refusing(lambda component, metric: False, architectures=["qwen*"])
of_this_architecture = refusing(lambda component, metric: False, architectures=["qwen*", "llama"])
of_one_component = refusing(lambda component, metric: False, components=["mlp_out"])

fractions = recovery(lambda x: x / 100)
hundredfold = recovery(lambda x: x * 100)
reversed_sign = recovery(lambda x: -x)
absolute = recovery(abs)
complement = recovery(lambda x: 100 - x)
offset = recovery(lambda x: x + 7)
clipped = recovery(lambda x: min(max(x, 0), 100))
zero = recovery(lambda x: 0.0)
stuck = recovery(lambda x: 12.34)
not_a_number = recovery(lambda x: float("nan"))
infinite = recovery(lambda x: float("inf"))
thirds = recovery(lambda x: x / 3)
swapped_prompts = asked(clean=lambda g: g["corrupted"], corrupted=lambda g: g["clean"])
noising_for_denoising = asked(direction=lambda g: "noising")
last_for_all = asked(positions=lambda g: "last" if g["positions"] == "all" else g["positions"])
all_for_last = asked(positions=lambda g: "all" if g["positions"] == "last" else g["positions"])
all_for_list = asked(positions=lambda g: "all" if isinstance(g["positions"], list) else g["positions"])
attention_for_mlp = asked(component=lambda g: "attn_out" if g["component"] == "mlp_out" else g["component"])
output_for_input = asked(component=lambda g: "resid_post" if g["component"] == "resid_pre" else g["component"])
l2_for_mse = asked(metric=lambda g: "l2" if g["metric"] == "mse" else g["metric"])
mse_for_l2 = asked(metric=lambda g: "mse" if g["metric"] == "l2" else g["metric"])
logit_for_difference = only("logit_diff", lambda ids: lambda a, x: x[ids.answer])
wrong_answer = only("log_prob", lambda ids: lambda a, x: log_softmax(x)[ids.wrong])
reversed_kl = only("kl_divergence", lambda ids: lambda a, x: METRIC["kl_divergence"](x, a, ids))
first_ids_only = only("cosine", lambda ids: lambda a, x: METRIC["cosine"](a[:100], x[:100], ids))
sum_of_absolutes = only("l2", lambda ids: lambda a, x: np.abs(a - x).sum())


def _next_layer(self, model, component, layer):
    return Wide.module(self, model, component, (layer + 1) % len(model.layers))


def _next_token(self, model, source, target, component, layer, where):
    moved = [(at + 1) % len(source) for at in where] if isinstance(where, list) and len(where) == 1 else where
    return Wide.patched(self, model, source, target, component, layer, moved)


def _last_layer_wrong(self, model, component, layer):
    return Wide.module(self, model, component, 0 if layer == len(model.layers) - 1 else layer)


def _next_head(self, model, source, target, component, layer, where):
    self.head = None if self.head is None else (self.head + 1) % self.heads
    return Wide.patched(self, model, source, target, component, layer, where)


def _half_patched(self, new, old, where):
    return old + 0.5 * (Wide.mixed(self, new, old, where) - old)


next_layer, next_token, next_head = engine(module=_next_layer), engine(patched=_next_token), engine(patched=_next_head)
last_layer_wrong, half_patched = engine(module=_last_layer_wrong), engine(mixed=_half_patched)
drops_a_layer = engine(reply=lambda self, found: dict(list(found.items())[1:]))
INSIDE = {**DECLARED, "components": ["q", "k", "v", "mlp_post"], "metrics": ["l2"], "positions": ["all", "each"]}


def _next_group(self, model, source, target, component, layer, where):
    """Two heads of queries share one of keys and values."""
    self.head = (self.head + 2) % self.heads if component == "q" else self.head
    return Wide.patched(self, model, source, target, component, layer, where)


def _values_for_keys(self, model, source, target, component, layer, where):
    return Wide.patched(self, model, source, target, {"k": "v"}.get(component, component), layer, where)


inside = engine(harness=INSIDE)
next_group, values_for_keys = (engine(harness=INSIDE, patched=each) for each in (_next_group, _values_for_keys))
heads_only = declaring(components=["z"], metrics=["l2"], positions=["all", "each"])
grid_without_tokens = engine(reply=lambda self, found: {k if isinstance(k, int) else k[0]: v for k, v in found.items()})
float16_sums = only("l2", lambda ids: lambda a, x: float(mx.sum(mx.square(mx.array(a - x).astype(mx.float16))) ** 0.5))


class InNoising(Wide):
    """Right, and in noising every answer is a little larger than the one before."""

    asked = 0

    def __call__(self, model, clean, corrupted, component, layers, metric, positions, direction, answers):
        found = super().__call__(model, clean, corrupted, component, layers, metric, positions, direction, answers)
        self.asked += direction == "noising"
        drift = 0.05 * self.asked if direction == "noising" else 0.0
        return {key: value if value is None else value + drift for key, value in found.items()}


class Own(declaring(metrics=["probability"]).__class__):
    """Declares a metric that the harness does not know, and no other."""

    def check(self, model, clean, corrupted, layers, metric):
        if metric != "probability":
            raise ValueError(f"unknown metric {metric}")
        super().check(model, clean, corrupted, layers, "l2")

    def measure(self, metric, answers):
        return lambda clean, x: np.exp(log_softmax(x))[3]


class OwnWithoutGuard(Own):
    """Says 0 % where the prompts are equal."""

    def recovery(self, clean, corrupted, patched):
        return super().recovery(clean, corrupted, patched) if clean != corrupted else 0.0


class OwnOffAtLast(Own):
    """Patches the token before the last where `last` is asked."""

    def positioned(self, new, old, where):
        return super().positioned(new, old, [-2] if where == "last" else where)


drifting_in_noising, own_metric, own_unguarded = InNoising(), Own(), OwnWithoutGuard()
own_off_at_last = OwnOffAtLast()


def _two_mistakes(self, metric, answers):
    self.fraction = metric == "l2"
    return Wide.measure(self, "l2" if metric == "mse" else metric, answers)


two_mistakes = engine(
    measure=_two_mistakes, recovery=lambda self, *ends: Wide.recovery(self, *ends) / (100 if self.fraction else 1)
)
cosine_guard = engine(
    measure=lambda self, name, answers: setattr(self, "name", name) or Wide.measure(self, name, answers),
    recovery=lambda self, a, b, x: 0.0 if self.name == "cosine" and a == b else Wide.recovery(self, a, b, x),
)
nowhere = declaring(components=["no_such_module"])
