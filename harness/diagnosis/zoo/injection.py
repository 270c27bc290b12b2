"""Faults that nobody listed: NaN, inf or a huge value at a random element of a random weight or output.

Everything follows from the seed. What a diagnosis must name is known from where the value was put, save for a huge
one, which is a number: where, and whether, it overflows is for an independent replay to say.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from harness.diagnosis.zoo.models import CLEAN, CORRUPTED, both, build
from harness.diagnosis.zoo.surgery import at, behave
from harness.intercept.outputs import activation_of, with_activation
from harness.intercept.swap import Handler, exchanged
from harness.models.loaded import LoadedModel
from harness.models.spec import DType

HALF = "llama qwen2 qwen3 gemma gemma2 gemma3_text gpt2 gpt_neox phi phi3 olmo2 starcoder2 stablelm cohere glm4"
WIDE = "qwen3_moe mixtral qwen2_moe lfm2 mamba2 qwen3_next recurrent_gemma deepseek_v3 falcon_h1 rwkv7 gemma3n"
"""Architectures drawn in every dtype, and those drawn in float32 only, the one the CPU runs all of them in."""

HUGE: Mapping[DType, float] = {"float16": 6e4, "bfloat16": 3e38, "float32": 3e38}


@dataclass(frozen=True)
class Injection:
    """One value at one element: in a weight, or in what a module returns in every run or in the corrupted one."""

    seed: int
    architecture: str
    dtype: str
    target: str
    run: str
    value: float
    element: int
    """Which element of the flattened array."""
    model: LoadedModel
    shape: tuple[int, ...]

    @property
    def is_huge(self) -> bool:
        return math.isfinite(self.value)

    @property
    def arguments(self) -> dict[str, Any]:
        return both(self.model, metric="l2", component="mlp_out" if self.has_mlp else "resid_post")

    @property
    def has_mlp(self) -> bool:
        return self.architecture in HALF.split()

    @property
    def place(self) -> Mapping[str, Any]:
        """Return the parts of the place that are known; an output of other than three axes leaves its element open."""
        known = {"run": self.run, "module": self.target}
        if self.run != "weights" and len(self.shape) != 3:
            return known
        row, dimension = divmod(self.element, self.shape[-1])
        # A vector has no rows.
        return known | {"token": row if len(self.shape) > 1 else None, "dimension": dimension}

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.value:g} at element {self.element} of {self.target} {list(self.shape)} "
            f"({self.run}), {self.architecture} {self.dtype}"
        )


def inject(seed: int) -> Injection:
    """Draw a model, a place and a value, and put the value there."""
    chance = Random(seed)
    architecture = chance.choice([*HALF.split(), *WIDE.split()])
    dtype: DType = chance.choice(list(HUGE)) if architecture in HALF.split() else "float32"
    value = chance.choice([math.nan, math.inf, -math.inf, HUGE[dtype]])
    into = _into_a_weight if chance.random() < 0.4 else _into_an_output
    return into(chance, build(architecture, dtype), seed=seed, architecture=architecture, dtype=dtype, value=value)


def _into_a_weight(chance: Random, model: LoadedModel, **drawn: Any) -> Injection:
    weights = [(name, array) for name, array in tree_flatten(model.module.parameters())
               if mx.issubdtype(array.dtype, mx.floating) and array.size]  # fmt: skip
    name, array = chance.choice(weights)
    element = chance.randrange(array.size)
    owner, _, leaf = name.rpartition(".")
    at(model.module, owner)[leaf] = _with(array, element, drawn["value"])
    return Injection(target=name, run="weights", element=element, model=model, shape=tuple(array.shape), **drawn)


def _into_an_output(chance: Random, model: LoadedModel, **drawn: Any) -> Injection:
    outputs = _outputs(model.module)
    name = chance.choice(list(outputs))
    seen = outputs[name]
    run = chance.choice(["clean", "corrupted"])
    if drawn["value"] == -math.inf and seen.shape[-1] == model.card.vocab:
        # There -inf is what rules a token out, and legal.
        drawn["value"] = math.inf
    element = chance.randrange(math.prod(seen.shape))
    _plant(at(model.module, name), element, drawn["value"], seen.given if run == "corrupted" else [])
    return Injection(target=name, run=run, element=element, model=model, shape=seen.shape, **drawn)


def _plant(module: Any, element: int, value: float, spared: Sequence[mx.array]) -> None:
    """Put the value into every output, except where the input is one to be spared."""

    def call(own: Any, *args: Any, **kwargs: Any) -> Any:
        out = own(*args, **kwargs)
        given = _first_array((args, kwargs))
        if any(_alike(given, each) for each in spared):
            return out
        return with_activation(out, lambda array: _with(array, element, value))

    behave(module, call)


def _with(array: mx.array, element: int, value: float) -> mx.array:
    """Return the array with one element set; a shorter one, as of another prompt, gets it at its last."""
    flat = mx.array(array).reshape(-1)
    flat[min(element, flat.size - 1)] = value
    return flat.reshape(array.shape)


def _alike(x: mx.array, y: mx.array) -> bool:
    return x.shape == y.shape and bool(mx.allclose(x.astype(mx.float32), y.astype(mx.float32), rtol=1e-3, atol=1e-6))


def _first_array(value: Any) -> Any:
    _, array = next((name, leaf) for name, leaf in tree_flatten(value) if isinstance(leaf, mx.array))
    return array


@dataclass
class _Seen:
    """The calls of a module in one run: the first array of each, and the shape that the first call returned."""

    given: list[mx.array]
    shape: tuple[int, ...]


def _outputs(root: Any) -> dict[str, _Seen]:
    """Return path -> clean calls, of the modules whose first input the two prompts tell apart."""
    clean, corrupted = _calls(root, CLEAN), _calls(root, CORRUPTED)
    shared = corrupted.keys() & clean.keys()
    return {path: seen for path, seen in clean.items()
            if path in shared and not _alike(seen.given[0], corrupted[path].given[0])}  # fmt: skip


def _calls(root: Any, ids: tuple[int, ...]) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = {}
    names = Counter(id(module) for _, module in root.named_modules())
    # A module that has two names has no name that a diagnosis could be held to.
    modules = [(path, module) for path, module in root.named_modules() if names[id(module)] == 1]

    def noting(path: str) -> Handler:
        def handler(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            # A handle of its own: `x += y` changes the array that a caller holds.
            given = mx.array(_first_array((args, kwargs)))
            out = call(*args, **kwargs)
            array = activation_of(out)
            if isinstance(array, mx.array) and mx.issubdtype(array.dtype, mx.floating):
                seen.setdefault(path, _Seen([], tuple(array.shape))).given.append(given)
            return out

        return handler

    with exchanged(root, [(module, noting(path)) for path, module in modules]):
        mx.eval(root(mx.array([list(ids)])))
        mx.eval([given for each in seen.values() for given in each.given])
    return seen
