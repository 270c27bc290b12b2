"""An answer is what continues both prompts: on every kind of tokenizer, or an error that shows both readings."""

from __future__ import annotations

from typing import Any

import pytest
from toy_tokenizers import TOYS, Stubborn, reading, toy

from harness.casefile import Conversation, LongAnswer, Prompts, Turn
from harness.models.sources.groundtruth.words import Words
from harness.models.sources.words import WordTokenizer
from harness.models.tokens import read, read_prompts
from harness.vocabulary import AnswerTokens
from harness.vocabulary.errors import PromptError

FRANCE, ITALY = "The capital of France is", "The capital of Italy is"


def asked(
    clean: Any = FRANCE, corrupted: Any = ITALY, answer: Any = " Paris", wrong: Any = " Rome", special: bool = True
):
    return Prompts.model_construct(clean=clean, corrupted=corrupted, answer=answer, wrong=wrong, special_tokens=special)


def first(text: str) -> LongAnswer:
    return LongAnswer(text=text, token="first")


def chat(content: str, *begun: str) -> Conversation:
    turns = [Turn(role="user", content=content), *(Turn(role="assistant", content=text) for text in begun)]
    return Conversation(messages=tuple(turns))


def pieces(tokenizer: Any, given: Prompts) -> list[str]:
    _, _, answers = read_prompts(reading(tokenizer), given)
    return [tokenizer.decode([token]).strip() for token in (answers.answer, answers.wrong)]


@pytest.mark.parametrize("name", TOYS)
@pytest.mark.parametrize("special_tokens", [True, False])
def test_an_answer_is_one_token_whatever_is_added_to_text(name: str, special_tokens: bool) -> None:
    tokenizer = toy(name)
    assert pieces(tokenizer, asked(special=special_tokens)) == ["Paris", "Rome"]
    clean, _, answers = read_prompts(reading(tokenizer), asked(special=special_tokens))
    whole = tokenizer.encode(FRANCE + " Paris", add_special_tokens=False)
    assert whole == [*tokenizer.encode(FRANCE, add_special_tokens=False), answers.answer]
    assert clean.ids == tuple(tokenizer.encode(FRANCE, add_special_tokens=special_tokens))


@pytest.mark.parametrize("name", ["byte-level with BOS", "metaspace with EOS"])
def test_several_tokens_are_shown_and_the_first_is_taken_on_request(name: str) -> None:
    tokenizer = toy(name)
    paris, rest = tokenizer.encode("The Paris is", add_special_tokens=False)[-2:]
    said = (
        rf"answer ' Paris is' is 2 tokens \[{paris} ' ?Paris', {rest} ' ?is'\]; give one token, "
        r"or {text: ' Paris is', token: first} \(`patch --first-token`\) for the first"
    )
    with pytest.raises(PromptError, match=said):
        read_prompts(reading(tokenizer), asked(answer=" Paris is"))
    assert pieces(tokenizer, asked(answer=first(" Paris is"), wrong=first(" Rome"))) == ["Paris", "Rome"]


def test_a_merge_across_the_border_shows_both_readings() -> None:
    tokenizer = toy("byte-level with BOS")
    alone, whole = (tokenizer.encode(text, add_special_tokens=False) for text in ("It i", "It is"))
    assert whole[: len(alone)] != alone
    with pytest.raises(PromptError) as raised:
        read_prompts(reading(tokenizer), asked("It i", "It i", "s", " Rome"))
    for ids in (alone, whole):
        assert ", ".join(f"{token} {tokenizer.decode([token])!r}" for token in ids) in str(raised.value)
    assert str(raised.value).startswith("answer 's' changes how the clean prompt is read: [")


def test_word_pieces_that_would_grow_the_last_word_are_refused() -> None:
    with pytest.raises(PromptError, match=r"changes how the clean prompt is read.*begin the answer with a space"):
        read_prompts(reading(toy("word pieces with CLS and SEP")), asked(answer="Paris"))


class Rhyming:
    """The token of a word depends on the length of the word before, and on the letter of the one before that."""

    def encode(self, text: str) -> list[int]:
        words = ["", "", *text.split()]
        threes = zip(words, words[1:], words[2:], strict=False)
        return [len(c) + 10 * len(b) + 1000 * ord(a[:1] or "\0") for a, b, c in threes]

    def decode(self, ids: list[int]) -> str:
        return "".join(f"<{token}>" for token in ids)


def test_two_tokens_for_one_answer_are_both_shown() -> None:
    said = r"answer ' d' is read as \[11 '<11>'\] after clean and \[21 '<21>'\] after corrupted; end both prompts alike"
    with pytest.raises(PromptError, match=said):
        read_prompts(reading(Rhyming()), asked("a", "bb", " d", " ee"))
    with pytest.raises(PromptError, match="is read as"):
        read_prompts(reading(Rhyming()), asked("a", "bb", first(" d e"), " ee"))
    with pytest.raises(PromptError, match=r"97011 '<97011>'\] after clean and .*98011 '<98011>'\] after corrupted"):
        read_prompts(reading(Rhyming()), asked("a", "b", " d e", " ee"))
    assert read_prompts(reading(Rhyming()), asked("a", "b", first(" d e"), " ee"))[2] == AnswerTokens(11, 12)


def test_texts_of_one_token_are_not_two_answers() -> None:
    tokenizer = toy("byte-level with BOS")
    (rome,) = tokenizer.encode(" Rome", add_special_tokens=False)
    for answer, wrong in ((first(" Rome is"), " Rome"), (rome, " Rome"), (" Rome", rome)):
        with pytest.raises(
            PromptError, match=rf"are the same token \[{rome} ' Rome'\]; no metric could tell them apart"
        ):
            read_prompts(reading(tokenizer), asked(answer=answer, wrong=wrong))


@pytest.mark.parametrize(
    ("answer", "said"), [("", "adds no token"), (" ", "adds no token"), (" x", "'x' is not a word")]
)
def test_an_answer_of_nothing_is_refused(answer: str, said: str) -> None:
    given = asked("a", "b", answer)
    with pytest.raises(PromptError, match=said):
        read_prompts(reading(Words(("a", "b", "Rome"))), given)


def test_integers_and_lists_are_taken_as_they_are() -> None:
    for tokenizer in (None, toy("byte-level with BOS"), Stubborn(toy("byte-level with BOS"))):
        clean, corrupted, answers = read_prompts(reading(tokenizer), asked((1, 1), (5, 6), 7, 7))
        assert (clean.ids, corrupted.ids, answers.answer, answers.wrong) == ((1, 1), (5, 6), 7, 7)


def test_after_token_ids_an_answer_is_read_by_itself_without_special_tokens() -> None:
    assert pieces(toy("byte-level with BOS and EOS"), asked((1, 9), (1, 10))) == ["Paris", "Rome"]


@pytest.mark.parametrize("vocab", [3, 10])
def test_an_answer_outside_the_vocabulary_is_refused(vocab: int) -> None:
    given = asked((1,), (2,), " Paris", 1)
    with pytest.raises(PromptError, match=f"outside the vocabulary of {vocab}"):
        read_prompts(reading(toy("byte-level with BOS"), vocab), given)


# -- special tokens and chat templates ---------------------------------------------------------------------------------


class Deaf(Stubborn):
    """It takes the option and does not listen to it."""

    def encode(self, text: str, **options: Any) -> list[int]:
        return self.inner.encode(text)


@pytest.mark.parametrize("kind", [Stubborn, Deaf])
def test_a_tokenizer_without_the_choice_still_continues_prompts(kind: type[Stubborn]) -> None:
    tokenizer = kind(toy("byte-level with BOS"))
    assert pieces(tokenizer, asked()) == ["Paris", "Rome"]
    with pytest.raises(PromptError, match=r"clean: the tokenizer adds \[1\] to every text, whatever"):
        read_prompts(reading(tokenizer), asked(special=False))
    with pytest.raises(PromptError, match="changes how the clean prompt is read"):  # EOS stands between them
        read_prompts(reading(kind(toy("metaspace with EOS"))), asked())


class Choosy(Stubborn):
    """It refuses text without a word in it."""

    def encode(self, text: str) -> list[int]:
        if not text.strip():
            raise ValueError("no text")
        return self.inner.encode(text)


def test_a_tokenizer_that_refuses_empty_text_is_never_the_worse_for_it() -> None:
    assert pieces(Choosy(toy("byte-level with BOS")), asked()) == ["Paris", "Rome"]


def test_a_tokenizer_that_adds_nothing_need_not_have_the_choice() -> None:
    given = asked(special=False)
    assert read_prompts(reading(WordTokenizer(999)), given) == read_prompts(reading(WordTokenizer(999)), asked())


@pytest.mark.parametrize("name", ["byte-level with BOS", "byte-level with BOS and EOS", "metaspace with BOS"])
def test_a_chat_ends_where_the_assistant_begins_and_has_one_bos(name: str) -> None:
    tokenizer = toy(name, chat=True)
    given = asked(chat(FRANCE), chat(ITALY))
    clean, _, _ = read_prompts(reading(tokenizer), given)
    turns = [{"role": "user", "content": FRANCE}]
    assert list(clean.ids) == tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert clean.ids[:2] == (1, 6)
    assert clean.ids[-1] == 7  # [assistant]
    assert pieces(tokenizer, given) == ["Paris", "Rome"]


def test_a_last_turn_of_the_assistant_is_continued() -> None:
    tokenizer = toy("byte-level with BOS", chat=True)
    clean, _, _ = read_prompts(reading(tokenizer), asked(chat(FRANCE, "It is"), chat(ITALY, "It is")))
    assert tokenizer.decode(list(clean.ids)).endswith("[assistant] It is")


def test_messages_without_a_template_are_refused() -> None:
    for tokenizer in (toy("byte-level with BOS"), WordTokenizer(99), Stubborn(toy("byte-level with BOS"))):
        with pytest.raises(
            PromptError, match=r"prompts.clean has messages, and the model's tokenizer has no chat template"
        ):
            read_prompts(reading(tokenizer), asked(chat("a"), chat("b")))
    with pytest.raises(PromptError, match=r"prompts.clean has messages and the model has no tokenizer"):
        read_prompts(reading(None), asked(chat("a"), chat("b")))


def test_what_a_template_refuses_is_said() -> None:
    given = Conversation(messages=(Turn(role="system", content="a"),))
    with pytest.raises(PromptError, match=r"clean: the chat template refuses the messages: .*no system turn here"):
        read(reading(toy("byte-level with BOS", chat=True)), given, "clean")


class Listing(Stubborn):
    """Its template makes tokens, whatever it is asked for."""

    chat_template = "any"

    def apply_chat_template(self, turns: list[dict[str, str]], **options: Any) -> list[int]:
        return [1]


def test_a_template_that_makes_no_text_is_said() -> None:
    with pytest.raises(PromptError, match="clean: the chat template refuses the messages: TypeError: it makes list"):
        read(reading(Listing(None)), chat("a"), "clean")


@pytest.mark.parametrize("special", [True, False])
def test_text_that_a_tokenizer_cannot_read_is_said(special: bool) -> None:
    with pytest.raises(PromptError, match=r"prompts\.clean: the tokenizer cannot read it: "):
        read_prompts(reading(toy("byte-level with BOS")), asked("half \ud83d", special=special))
    with pytest.raises(PromptError, match=r"answer ' .*' after the clean prompt: the tokenizer cannot read it: "):
        read_prompts(reading(toy("byte-level with BOS")), asked(answer=" \ud83d", special=special))
