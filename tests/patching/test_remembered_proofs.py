"""A proof is remembered for exactly what it proved, and by nobody who did not ask."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
import pytest
from emulation.accelerator import emulated
from plain_transformer import Transformer, loaded
from test_one_pass import rows_of, sentences, small

from harness.models import load
from harness.models.as_written import NotAsWritten, as_written
from harness.models.sources import miniatures
from harness.models.spec import SyntheticRow
from harness.patching import proof, remembered
from harness.vocabulary import Question, Sweep, Tokens

pytestmark = pytest.mark.as_installed("a proof is remembered of MLX as it was installed")

SWEEP = Sweep(("mlp_out",))


@pytest.fixture
def proven(monkeypatch):
    """Note every proof that is made."""
    made: list[int] = []
    unbroken = proof.intercept.run_together

    def noted(model, source, target, patches):
        made.append(len(patches))
        return unbroken(model, source, target, patches)

    monkeypatch.setattr(proof.intercept, "run_together", noted)
    return made


def asked(model, sweep: Sweep = SWEEP, *, anew: bool = False):
    with remembered.trusting(anew=anew):
        steps, _ = rows_of(model, sentences(model, sweep), "auto")
    return steps


def test_another_load_of_the_model_relies_on_the_proof_and_says_when_it_was_made(proven):
    first = asked(small("llama"))
    assert (first.strategy, first.proven_on, len(proven)) == ("one-pass", "", 1)
    second = asked(small("llama"))
    assert (second.strategy, second.fallback, len(proven)) == ("one-pass", None, 1)
    (entry,) = remembered.kept()
    assert second.proven_on == json.loads(entry.read_text())["proven"]


def test_who_does_not_ask_proves_anew_and_keeps_nothing(proven):
    rows_of(small("llama"), sentences(small("llama"), SWEEP), "auto")
    assert remembered.kept() == []
    asked(small("llama"))
    model = small("llama")
    steps, _ = rows_of(model, sentences(model, SWEEP), "auto")
    assert (steps.proven_on, len(proven)) == ("", 3)


def test_a_proof_made_anew_replaces_the_one_that_is_kept(proven):
    asked(small("llama"))
    (entry,) = remembered.kept()
    entry.write_text(entry.read_text().replace('"proven": "2', '"proven": "1'))
    assert asked(small("llama")).proven_on.startswith("1")
    assert asked(small("llama"), anew=True).proven_on == ""
    assert (len(proven), remembered.kept()) == (2, [entry])
    assert asked(small("llama")).proven_on.startswith("2")


ROW = {"id": "s", "source": "synthetic", "architecture": "llama", "vocab": 512, "dtype": "float32"}
OTHER = {
    "another architecture": lambda: asked(small("qwen3")),
    "another dtype": lambda: asked(small("llama", "float16")),
    "a quantised model": lambda: asked(small("llama", quantize="4bit")),
    "another component": lambda: asked(small("llama"), Sweep(("attn_out",))),
    "other positions": lambda: asked(small("llama"), Sweep(("mlp_out",), positions="last")),
    "one layer more": lambda: asked(load(SyntheticRow(**ROW, layers=4))),
    "a training flag": lambda: asked(trained(small("llama"))),
    "another number in a module": lambda: asked(with_other_number(small("llama"))),
    "a variable of MLX": lambda: asked(small("llama")),
}


def trained(model):
    model.module.train(not model.module.training)
    return model


def with_other_number(model):
    model.module.layers[1].input_layernorm.eps = 1e-3
    return model


@pytest.mark.parametrize("name", OTHER)
def test_what_was_not_proven_is_proven_first(proven, monkeypatch, name):
    asked(small("llama"))
    if name == "a variable of MLX":
        monkeypatch.setenv("MLX_SOMETHING", "1")
    steps = OTHER[name]()
    assert (steps.proven_on, len(proven)) == ("", 2)


@pytest.mark.parametrize(
    ("tokens", "shared", "again"), [(3, 0, False), (4, 0, True), (5, 0, False), (6, 0, True), (6, 3, False)], ids=str
)
def test_lengths_within_a_window_and_beyond_it_are_two_claims(proven, tokens, shared, again):
    first = 4 if tokens < 5 else 5 if again else 4
    model = miniatures.load("gemma3_text" if not shared else "llama")  # its window holds 4 tokens

    def ask(tokens: int, shared: int = 0):
        clean = tuple(range(3, 3 + tokens))
        corrupted = (*clean[:shared], *(100 + each for each in clean[shared:]))
        prompts = (Tokens(ids, tuple(map(str, ids))) for ids in (clean, corrupted))
        with remembered.trusting():
            steps, _ = rows_of(model, Question(*prompts, Sweep(("mlp_out",), positions="each"), ("l2",)), "auto")
        return steps

    if tokens == 3:
        first = 1
    ask(first)
    model.proven.clear()
    made = len(proven)
    steps = ask(tokens, shared)
    assert (bool(steps.proven_on), len(proven) - made) == ((True, 0) if again else (False, 1))


DAMAGE = {
    "nothing": lambda text: "",
    "half of it": lambda text: text[: len(text) // 2],
    "no JSON": lambda text: "proven",
    "a list": lambda text: "[]",
    "another schema": lambda text: text.replace("proof/1", "proof/9"),
    "another claim": lambda text: text.replace('"mlp_out"', '"attn_out"'),
    "no day": lambda text: text.replace('"proven": "2', '"proven": "x'),
    "deep": lambda text: "[" * 100_000,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_an_entry_that_is_damaged_or_foreign_is_not_there(proven, name):
    asked(small("llama"))
    (entry,) = remembered.kept()
    entry.write_text(DAMAGE[name](entry.read_text()))
    assert asked(small("llama")).proven_on == ""
    assert len(proven) == 2
    assert asked(small("llama")).proven_on  # and it is mended


def test_a_place_that_cannot_be_written_costs_nothing_but_the_proof(proven):
    place = remembered.folder()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("a file")
    for _ in range(2):
        assert asked(small("llama")).strategy == "one-pass"
    assert len(proven) == 2


def test_many_at_once_leave_whole_entries():
    model = small("llama")
    patches = proof_patches(model)
    proofs = [remembered_of(model, patches) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: [each.keep(frozenset({"mlp_out"})) for _ in range(20)], proofs))
    (entry,) = remembered.kept()
    assert json.loads(entry.read_text())["schema"] == remembered.SCHEMA
    assert [each.name for each in remembered.folder().iterdir()] == [entry.name]


def proof_patches(model):
    from harness.patching import check_question
    from harness.patching.patch import patches_of

    return patches_of(check_question(model, sentences(model, SWEEP)), "all", 6)


def remembered_of(model, patches):
    with remembered.trusting():
        return remembered.Proofs(model, patches, 6, 0)


# -- what a model runs is what its files say, or nothing is remembered -------------------------------------------------


def mixing(self, x):
    out = self.down_proj(nn.silu(self.gate_proj(x)) * self.up_proj(x))
    return out - 0.1 * mx.mean(out, axis=0, keepdims=True)


def method_exchanged(model, monkeypatch):
    monkeypatch.setattr(type(model.module.layers[0].mlp), "__call__", mixing)


def method_of_a_neighbour(model, monkeypatch):
    """Of the same file, and of another class."""
    block, attention = type(model.module.layers[0]), type(model.module.layers[0].self_attn)
    monkeypatch.setattr(attention, "__call__", block.__call__)


def method_of_the_same_name(model, monkeypatch):
    kind, made = type(model.module.layers[0].mlp), {}
    exec("class MLP:\n    def __call__(self, x):\n        return x\n", {"__name__": kind.__module__}, made)
    monkeypatch.setattr(kind, "__call__", made["MLP"].__call__)


def method_added(model, monkeypatch):
    monkeypatch.setattr(type(model.module.layers[0].mlp), "extra", mixing, raising=False)


def base_class_exchanged(model, monkeypatch):
    monkeypatch.setattr(nn.Linear, "__call__", lambda self, x: x @ self.weight.T)


def helper_exchanged(model, monkeypatch):
    from mlx_lm.models import llama

    monkeypatch.setattr(llama, "scaled_dot_product_attention", lambda *args, **kwargs: args[0])


def helper_exchanged_where_it_is_defined(model, monkeypatch):
    from mlx_lm.models import base

    monkeypatch.setattr(base, "create_causal_mask", lambda *args, **kwargs: None)


def instance_of_another_class(model, monkeypatch):
    mlp = model.module.layers[1].mlp
    mlp.__class__ = type("MLP", (type(mlp),), {"__call__": mixing})


def function_on_an_instance(model, monkeypatch):
    model.module.layers[1].mlp.activation = partial(mixing, None)


def operation_exchanged(model, monkeypatch):
    monkeypatch.setattr(mx.fast, "rms_norm", lambda x, weight, eps: x)


EXCHANGED = [
    method_exchanged, method_of_a_neighbour, method_of_the_same_name, method_added, base_class_exchanged,
    helper_exchanged, helper_exchanged_where_it_is_defined, instance_of_another_class, function_on_an_instance,
    operation_exchanged,
]  # fmt: skip


@pytest.mark.parametrize("exchange", EXCHANGED)
def test_what_was_exchanged_at_run_time_is_not_as_written(monkeypatch, exchange):
    model = small("llama")
    as_written(model)
    exchange(model, monkeypatch)
    with pytest.raises(NotAsWritten):
        as_written(model)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3_text", "qwen3_moe", "mamba", "deepseek_v3", "gpt_oss"])
def test_a_model_of_mlx_lm_is_as_written(name):
    assert as_written(miniatures.load(name)).facts["sources"]


def test_a_class_of_the_users_own_and_an_emulated_machine_are_not():
    with pytest.raises(NotAsWritten):
        as_written(loaded(Transformer()))
    with emulated("order"), pytest.raises(NotAsWritten):
        as_written(small("llama"))


def test_a_method_exchanged_after_the_proof_is_proven_anew_and_caught(proven, monkeypatch):
    asked(small("llama"))
    method_exchanged(small("llama"), monkeypatch)
    steps = asked(small("llama"))
    assert (steps.strategy, steps.proven_on, len(proven)) == ("stepwise", "", 2)
    assert "one-pass and stepwise logits differ by" in steps.fallback
    assert len(remembered.kept()) == 1  # what failed is not kept


# -- files that change between two processes ---------------------------------------------------------------------------

SCRIPT = """
import json
from harness.models import load
from harness.models.spec import SyntheticRow
from harness.patching import remembered, walk
from harness.vocabulary import Question, Sweep, Tokens
model = load(SyntheticRow(id="s", source="synthetic", architecture="llama", vocab=512, layers=3, dtype="float32"))
prompts = (Tokens(ids, tuple("abcd")) for ids in ((3, 5, 7, 11), (4, 5, 7, 12)))
with remembered.trusting():
    steps = walk(model, Question(*prompts, Sweep(("mlp_out",)), ("l2",)))
print(json.dumps([steps.strategy, bool(steps.proven_on), steps.fallback]))
"""

CHANGES = {
    "nothing": (None, "", "", ["one-pass", True]),
    "a comment in the class's file": ("llama.py", "class MLP", "# here\nclass MLP", ["one-pass", False]),
    "a comment in a helper's file": ("base.py", "def create_attention_mask", "# here\ndef create_attention_mask",
                                     ["one-pass", False]),
    "rows mixed by a method": ("llama.py", "        return out\n", "        return out - 0.1 * mx.mean(out, 0, True)\n",
                               ["stepwise", False]),
    "rows mixed by a helper": ("base.py", "fast.scaled_dot_product_attention(\n            queries,",
                               "fast.scaled_dot_product_attention(\n            queries - queries.mean(0, True) / 9,",
                               ["stepwise", False]),
}  # fmt: skip


@pytest.fixture(scope="module")
def proofs_of_another_process(tmp_path_factory):
    """A copy of mlx-lm, and the proofs of a process that ran with it."""
    folder = tmp_path_factory.mktemp("release")
    shutil.copytree(Path(mlx_lm.__file__).parent, folder / "mlx_lm", ignore=shutil.ignore_patterns("__pycache__"))
    assert in_a_process(folder, folder / "proofs") == ["one-pass", False, None]
    return folder


def in_a_process(release: Path, proofs: Path) -> list:
    more = {"HARNESS_PROOFS": str(proofs), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(release)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**os.environ, **more}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if "comment" in name else ()) for name in CHANGES]
)
def test_a_file_that_changed_by_a_line_is_proven_anew_and_caught_where_it_is_wrong(
    proofs_of_another_process, tmp_path, name
):
    file, was, becomes, expected = CHANGES[name]
    release = proofs_of_another_process
    shutil.copytree(release / "proofs", tmp_path / "proofs")
    if file is None:
        assert in_a_process(release, tmp_path / "proofs")[:2] == expected
        return
    path = release / "mlx_lm" / "models" / file
    text = path.read_text()
    assert was in text
    try:
        path.write_text(text.replace(was, becomes, 1))
        assert in_a_process(release, tmp_path / "proofs")[:2] == expected
    finally:
        path.write_text(text)
