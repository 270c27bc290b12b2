"""Every law holds on an ordinary model and is broken by a model that was made to break it."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from harness import models
from harness.intercept import resolve
from harness.laws import LAWS, Situation
from harness.models.fingerprint import fingerprint
from harness.models.loaded import LoadedModel
from harness.models.spec import SyntheticRow
from harness.vocabulary import Direction, ModelCard, Question, Sweep, Tokens

LAW = {law.code: law.of_job for law in LAWS.values() if law.of_job}
ABOUT_RUNS = {law.code: law.of_job for law in LAWS.values() if law.of_job and not law.of_answers}
CLEAN, CORRUPTED = Tokens((1, 5, 6), ("a", "e", "f")), Tokens((2, 5, 7), ("b", "e", "g"))


class Affine(nn.Module):
    def __init__(self, seed: int):
        super().__init__()
        self.weight = mx.array(np.random.RandomState(seed).uniform(-1, 1, (6, 6)).astype(np.float32))

    def __call__(self, x: mx.array) -> mx.array:
        return x @ self.weight


class Block(nn.Module):
    def __init__(self, seed: int):
        super().__init__()
        self.mlp = Affine(seed)

    def __call__(self, x: mx.array) -> mx.array:
        return x + self.mlp(x)


class Model(nn.Module):
    """Token ids `[1, tokens]` in, logits `[1, tokens, 6]` out."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = mx.array(np.random.RandomState(0).uniform(-1, 1, (8, 6)).astype(np.float32))
        self.layers = [Block(seed) for seed in (1, 2, 3, 4)]

    def __call__(self, inputs: mx.array) -> mx.array:
        x = self.embedding[inputs]
        for layer in self.layers:
            x = layer(x)
        return x


class ClassConscious(Affine):
    """Behaves another way under another class."""

    def __call__(self, x):
        return super().__call__(x) * (1.0 if type(self) is ClassConscious else 1.001)


class Drifting(Block):
    """Remembers how often it was called."""

    def __call__(self, x):
        self._calls = getattr(self, "_calls", 0) + 1
        return super().__call__(x) + 1e-3 * self._calls


class Suspicious(Block):
    """Notices when somebody exchanges what its module returned."""

    def __call__(self, x):
        own = []
        out = self.mlp(_Spy(x, own))
        return x + (out if out is own[0] else 1.001 * out)


class _Spy:
    def __init__(self, x, own):
        self.x, self.own = x, own

    def __matmul__(self, weight):
        self.own.append(self.x @ weight)
        return self.own[0]


class Shortcut(Model):
    """Carries the embedding around the residual stream, to the end."""

    def __call__(self, inputs):
        return super().__call__(inputs) + self.embedding[inputs]


class Suppressing(Model):
    """Rules out its first token, as models with a padded vocabulary do."""

    def __call__(self, inputs):
        row = super().__call__(inputs) + 1e-6 * mx.random.uniform(shape=(1, 3, 6))
        return mx.where(mx.arange(6) == 0, -mx.inf, row)


def with_part(part, layer=1) -> Model:
    model = Model()
    if isinstance(part, Block):
        model.layers[layer] = part
    else:
        model.layers[layer].mlp = part
    return model


def situation(model, components=("mlp",), direction=Direction.DENOISING, positions="all") -> Situation:
    if not isinstance(model, LoadedModel):
        model = LoadedModel(ModelCard("model", "test", "model", len(model.layers), 6, "float32"), model)
    question = Question(CLEAN, CORRUPTED, Sweep(components, None, direction, positions), ("l2",))
    return Situation(model, question, tuple(resolve(model, question.sweep)))


@pytest.fixture(scope="module", params=["float32", "float16", "bfloat16"])
def llama(request):
    row = SyntheticRow(id="t", source="synthetic", architecture="llama", vocab=2048, dtype=request.param)
    return models.load(row)


@pytest.mark.parametrize("code", LAW)
@pytest.mark.parametrize("direction", Direction)
def test_a_real_architecture_obeys_every_law(llama, code, direction):
    every = ("resid_pre", "attn_out", "mlp_out", "resid_post", "mlp.gate_proj")
    assert LAW[code](situation(llama, every, direction, "all")) is None
    assert LAW[code](situation(llama, every, direction, (0, -1))) is None


@pytest.mark.parametrize("code", LAW)
def test_a_plain_module_obeys_every_law(code):
    assert LAW[code](situation(Model(), ("mlp", "resid_pre", "resid_post"))) is None


BREACHES = {
    "a module that behaves differently under another class": (with_part(ClassConscious(2)), {"LAW001"}),
    "a block that notices an exchanged activation": (with_part(Suspicious(2)), {"LAW002"}),
    "state carried around the residual": (Shortcut(), {"LAW003"}),
    "a block that counts its calls": (with_part(Drifting(4), layer=3), {"LAW001", "LAW002", "LAW003"}),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_planted_breach_breaks_exactly_the_laws_it_must(name):
    model, codes = BREACHES[name]
    breached = {code: said for code, law in ABOUT_RUNS.items() if (said := law(situation(model)))}
    assert set(breached) == codes
    assert all("differ by" in said and "of the largest logit" in said for said in breached.values())


def test_every_law_about_runs_has_a_breach():
    """Laws about answers are broken by engines, in test_answer_laws.py."""
    assert set(ABOUT_RUNS) == set().union(*(codes for _, codes in BREACHES.values()))


def test_a_breach_says_how_large_it_is():
    """The patch reaches all but the shortcut, so what is left is the difference of the two last embeddings."""
    model = Shortcut()
    embedding, logits = np.array(model.embedding), np.array(model(mx.array([CLEAN.ids])))[0, -1]
    gap = np.abs(embedding[CLEAN.ids[-1]] - embedding[CORRUPTED.ids[-1]]).max() / np.abs(logits).max()
    said = LAW["LAW003"](situation(model))
    assert said == f"whole residual at layer 2 put in, logits differ by {gap:.2e} of the largest logit"


def test_suppressed_tokens_do_not_count_as_a_difference():
    assert LAW["LAW003"](situation(Suppressing())) is None


def test_another_dtype_is_a_breach_whatever_the_values():
    class Widening(Model):
        def __call__(self, inputs):
            tapped = type(self.layers[0].mlp) is not Affine
            return super().__call__(inputs).astype(mx.float16 if tapped else mx.float32)

    said = LAW["LAW001"](situation(Widening()))
    assert said.startswith("traced and bare logits differ: (6,)")
    assert "float32" in said
    assert "float16" in said


def test_the_fingerprint_sees_what_a_job_leaves_behind():
    """One bit of one parameter, one class, one added or lost entry: the ground of LAW005."""
    model = Model()
    before = fingerprint(model)
    assert before.difference(fingerprint(model)) is None
    old = model.layers[2].mlp.weight
    model.layers[2].mlp.weight = (old.view(mx.uint32) + (mx.arange(36).reshape(6, 6) == 35)).view(mx.float32)
    assert "parameter 'layers.2.mlp.weight' changed (1 in all)" in before.difference(fingerprint(model))
    model.layers[2].mlp.weight = old
    model.layers[0].mlp.__class__ = ClassConscious
    assert "module class 'layers.0.mlp' changed" in before.difference(fingerprint(model))
    model.layers[0].mlp.__class__ = Affine
    model.layers[0].extra = mx.zeros((1,))
    assert before.difference(fingerprint(model))
