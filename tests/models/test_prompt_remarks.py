"""What is odd about the tokens of a prompt is said once, and nothing is said of a prompt that is as it should be."""

from __future__ import annotations

from typing import Any

import pytest
from toy_tokenizers import TOYS, Stubborn, reading, toy

from harness.casefile import Conversation, Prompts, Turn
from harness.models.remarks import remarks
from harness.models.tokens import read_prompts
from harness.vocabulary import Question, Sweep


def said(tokenizer: Any, clean: Any, corrupted: Any, special: bool = True) -> list[str]:
    given = Prompts.model_construct(clean=clean, corrupted=corrupted, special_tokens=special, answer=None, wrong=None)
    model = reading(tokenizer)
    prompts = read_prompts(model, given)
    return [
        f"{found.code} {found.message}" for found in remarks(model, given, Question(*prompts[:2], Sweep(("mlp",)), ()))
    ]


def chat(content: str) -> Conversation:
    return Conversation(messages=(Turn(role="user", content=content),))


ENDING = [name for name in TOYS if "EOS" in name or "SEP" in name]


@pytest.mark.parametrize("name", [name for name in TOYS if "BOS" in name and name not in ENDING])
def test_two_bos_are_warned_of_with_both_ids(name: str) -> None:
    assert said(toy(name), "<s>It is 5", "<s>It is 6") == ["TOK001 clean, corrupted: begins with [1 '<s>', 1 '<s>']"]
    assert said(toy(name), "It is 5", "<s>It is 6") == ["TOK001 corrupted: begins with [1 '<s>', 1 '<s>']"]
    assert said(toy(name), "<s>", "<s>") == ["TOK001 clean, corrupted: begins with [1 '<s>', 1 '<s>']"]


@pytest.mark.parametrize("tokenizer", [Stubborn(toy("byte-level with BOS")), None])
def test_a_tokenizer_that_cannot_say_what_it_adds_is_not_guessed_about(tokenizer: Any) -> None:
    prompt = (1, 1, 5) if tokenizer is None else "<s>It is 5"
    assert said(tokenizer, prompt, prompt) == []


@pytest.mark.parametrize("name", ENDING)
def test_a_prompt_that_the_tokenizer_ends_is_warned_of(name: str) -> None:
    token, ending = (2, "</s>") if "EOS" in name else (5, "[SEP]")
    assert said(toy(name), "It is 5", "It is 6") == [
        f"TOK002 clean, corrupted: ends with [{token} '{ending}'], which the tokenizer adds"
    ]
    assert said(toy(name), "It is 5", "It is 6", special=False) == []


def test_two_bos_and_an_end_are_two_remarks() -> None:
    codes = [each[:6] for each in said(toy("byte-level with BOS and EOS"), "<s>It is 5", "<s>It is 6")]
    assert codes == ["TOK001", "TOK002"]
    assert [each[:6] for each in said(toy("word pieces with CLS and SEP"), "[CLS] It", "[CLS] is")] == codes


def test_pads_in_front_are_counted() -> None:
    tokenizer = toy("byte-level with BOS")
    assert said(tokenizer, (0, 0, 1, 9), (1, 9, 9, 9)) == [
        "TOK003 clean: begins with the pad token [0 '<pad>'], 2 of its 4 tokens"
    ]
    assert said(tokenizer, "<pad>It is 5", "It is 6 6", special=False)[0].startswith("TOK003 clean")
    assert said(tokenizer, (1, 0, 9, 0), (9, 0, 0, 0)) == []  # padded behind or within is no pad in front


def test_a_pad_token_that_is_bos_too_is_bos_where_it_stands_once() -> None:
    from transformers import PreTrainedTokenizerFast

    both = PreTrainedTokenizerFast(tokenizer_object=TOYS["byte-level with BOS"](), bos_token="<s>", pad_token="<s>")
    assert said(both, "It is 5", "It is 6") == said(both, (1, 9), (1, 10)) == []
    assert said(both, (1, 1, 9), (1, 10, 9)) == ["TOK003 clean: begins with the pad token [1 '<s>'], 1 of its 3 tokens"]


@pytest.mark.parametrize("name", [name for name in TOYS if name not in ENDING])
def test_nothing_is_said_of_prompts_as_they_should_be(name: str) -> None:
    assert said(toy(name), "It is 5", "It is 6") == []
    assert said(toy(name), "<s>It is 5", "<s>It is 6", special=False) == []
    assert said(toy(name, chat=True), chat("5"), chat("6")) == []
    assert said(toy(name), (1, 1, 9), (1, 1, 10)) == []  # ids are taken as they are


def test_a_template_that_writes_two_bos_is_warned_of() -> None:
    tokenizer = toy("byte-level with BOS", chat=True)
    twice = type(tokenizer)(tokenizer_object=TOYS["byte-level with BOS"](), bos_token="<s>", chat_template="<s><s>a")
    assert said(twice, chat("It"), chat("is")) == ["TOK001 clean, corrupted: begins with [1 '<s>', 1 '<s>']"]
