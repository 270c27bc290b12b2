"""What a notebook may give as prompts and answers, and what it is told of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from toy_tokenizers import VOCAB, toy

from harness import InterpretableModel, models
from harness.models.spec import SyntheticRow
from harness.vocabulary.errors import PromptError, UsageError

FRANCE, ITALY = "The capital of France is", "The capital of Italy is"


@pytest.fixture(scope="module")
def ask() -> Any:
    row = SyntheticRow(id="l", source="synthetic", architecture="llama", vocab=VOCAB, layers=2, dtype="float32")
    model = InterpretableModel(models.load(row).module, tokenizer=toy("byte-level with BOS", chat=True))

    def patched(*answers: Any, clean: Any = FRANCE, corrupted: Any = ITALY, **options: Any) -> Any:
        return model.activation_patching(clean, corrupted, metric="logit_diff", answers=answers, **options)

    return patched


def chat(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def test_every_way_to_give_an_answer_is_the_same_question(ask: Any) -> None:
    paris, rome = toy("byte-level with BOS").encode(" Paris Rome")[1:]
    first = {"text": " Paris is", "token": "first"}
    wanted = dict(ask(" Paris", " Rome"))
    for answers in ((paris, rome), (np.int64(paris), " Rome"), (first, " Rome")):
        given = ask(*answers)
        assert dict(given) == wanted
        assert (given.answers.answer, given.answers.wrong) == (paris, rome)


@pytest.mark.filterwarnings("ignore:BAS004")  # the answers are any two, and the model knows neither
def test_messages_and_bare_text_are_other_prompts(ask: Any) -> None:
    results = [
        ask(" Paris", " Rome"),
        ask(" Paris", " Rome", special_tokens=False),
        ask(" Paris", " Rome", clean=chat(FRANCE), corrupted=chat(ITALY)),
    ]
    assert len({each.baseline for each in results}) == 3


def test_a_second_bos_is_a_warning_with_both_ids(ask: Any) -> None:
    with pytest.warns(UserWarning, match=r"TOK001: clean, corrupted: begins with \[1 '<s>', 1 '<s>'\]"):
        twice = ask(" Paris", " Rome", clean=f"<s>{FRANCE}", corrupted=f"<s>{ITALY}")
    once = ask(" Paris", " Rome", clean=f"<s>{FRANCE}", corrupted=f"<s>{ITALY}", special_tokens=False)
    assert dict(once) == dict(ask(" Paris", " Rome")) != dict(twice)


@pytest.mark.parametrize(
    ("answers", "more", "said"),
    [
        ((" Paris is", " Rome"), {}, "answer ' Paris is' is 2 tokens ["),
        ((" Paris", " Paris"), {}, "are the same token"),
        (({"text": " Paris is"}, " Rome"), {}, "answer {'text': ' Paris is'} is not what a case may say here: token"),
        (({"text": " Paris", "token": "last"}, " Rome"), {}, "'last' is not a token of an answer"),
        (([1], " Rome"), {}, "answer [1] must be text, a token id"),
        ((1.5, 2), {}, "answer 1.5 must be text, a token id"),
        (("a", "b", "c"), {}, "must be two"),
        ((1, 2), {"clean": {"messages": []}}, "clean_text {'messages': []} is not what a case may say here"),
        ((1, 2), {"clean": {"messages": [{"role": "user", "content": {1}}]}}, "is not what a case may say here"),
        ((1, 2), {"clean": [{"role": "user", "content": "a"}]}, "must be a list of whole numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said(ask: Any, answers: Any, more: dict[str, Any], said: str) -> None:
    with pytest.raises((PromptError, UsageError)) as raised:
        ask(*answers, **more)
    assert said in str(raised.value)
