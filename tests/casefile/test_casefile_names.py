"""Models by id, pattern and tag, and names that nobody knows, together with whatever else is wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from harness.casefile import Names, load_cases

Problems = Callable[..., list[str]]
NAMES = Names({"tiny": ("small",), "qwen3-a": ("big", "moe"), "qwen3-b": ("big",), "llama": ()}, ("native", "legacy"))


@pytest.mark.parametrize(
    ("patterns", "models"),
    [
        (("tiny",), ["tiny"]),
        (("qwen3-*",), ["qwen3-a", "qwen3-b"]),
        (("qwen3-?", "tiny", "qwen3-a"), ["qwen3-a", "qwen3-b", "tiny"]),
        (("tag:big", "tag:small"), ["qwen3-a", "qwen3-b", "tiny"]),
        (("*",), ["tiny", "qwen3-a", "qwen3-b", "llama"]),
        (("tag:b*", "moe"), []),
    ],
)
def test_each_model_once_in_the_order_asked_for(patterns: tuple[str, ...], models: list[str]) -> None:
    assert NAMES.models_of(patterns) == models


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("models: [tinny]", "1:10: models[0]: 'tinny' is not a model; did you mean 'tiny'?"),
        ("models: ['qwne3-*']", "1:10: models[0]: 'qwne3-*' matches no model; did you mean 'qwen3-*'?"),
        ("models: ['zzz*']", "1:10: models[0]: 'zzz*' matches no model; `harness models list` shows what there is"),
        ("models: ['tag:bigg']", "1:10: models[0]: no model has the tag 'bigg'; did you mean 'big'?"),
        ("models: ['qwen3-[ab]']", "1:10: models[0]: expected a model's id, a pattern such as 'qwen3-*', or 'tag:moe', "
         "found 'qwen3-[ab]'"),
        ("engines: [natve]", "1:11: engines[0]: 'natve' is not an engine; did you mean 'native'?"),
        ("engines: ['os:system']", "1:11: engines[0]: the engine 'os:system' is code of your own, and runs only with "
         "--allow-code; nothing was imported"),
        ("reference: natve", "1:12: reference: 'natve' is not an engine; did you mean 'native'?"),
        ("skip: [{reason: a, model: 'lama*'}]\nmodels: ['tag:big']", "1:27: skip[0].model: 'lama*' matches no model of "
         "this case; known: qwen3-a, qwen3-b"),
        ("expect: {finite: [{model: tiny}]}\nmodels: ['qwen3-*']", "1:27: expect.finite[0].model: 'tiny' matches no "
         "model of this case; known: qwen3-a, qwen3-b"),
        ("expect: {finite: [{model: tiny}]}\nmodels: [llama]", "1:27: expect.finite[0].model: 'tiny' is not a model of "
         "this case; known: llama"),
    ],
)  # fmt: skip
def test_every_message(problems: Problems, written: str, message: str) -> None:
    models = "" if "models:" in written else "models: [tiny]\n"
    text = f"{written}\n{models}prompts: {{clean: a, corrupted: b}}\n"
    assert problems(text, partial(load_cases, names=NAMES)) == [f"x.case.yaml:{message}"]


def test_unknown_names_come_in_one_round_with_every_other_fault(problems: Problems) -> None:
    text = "models: [tinny]\nengines: [natve]\nmetrics: [l3]\nprompts: {clean: a}\n"
    assert [line.split(": ")[1] for line in problems(text, partial(load_cases, names=NAMES))] == [
        "models[0]", "engines[0]", "metrics[0]", "prompts.corrupted",
    ]  # fmt: skip


def test_code_may_be_named_where_it_is_allowed(problems: Problems) -> None:
    text = "models: [tiny]\nengines: ['a.b:c']\nprompts: {clean: a}\n"
    allowing = Names(NAMES.models, NAMES.engines, code=True)
    (message,) = problems(text, partial(load_cases, names=allowing))
    assert "prompts.corrupted" in message
