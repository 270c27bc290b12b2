"""What a case says of its prompts: text, token ids or a conversation, and the tokens that follow them.

    clean: The capital of France is
    clean: [1, 415, 5565, 302, 4843, 349]
    clean: {messages: [{role: user, content: Name the capital of France.}]}

A list of pairs, or a file of them, makes one job whose recoveries are means over the pairs.

`harness.models.tokens` says what a model reads there.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationError, model_validator

from harness.casefile.language.fields import (
    LIST,
    MAPPING,
    NUMBER,
    TEXT,
    NameOf,
    Refusal,
    StrictModel,
    Text,
    TokenId,
    either,
    refuse,
)
from harness.vocabulary.errors import PromptError


class Turn(StrictModel):
    """One turn of a conversation."""

    role: Text = Field(description="who speaks: `user`, `assistant`, `system`, or what else the template knows")
    content: str = Field(description="what is said")


class Conversation(StrictModel):
    """A prompt that the tokenizer's chat template writes out, up to where the assistant's next token stands."""

    messages: Annotated[tuple[Turn, ...], Field(min_length=1)] = Field(
        description="the turns; a last one of the assistant is continued, after any other the assistant begins"
    )


class LongAnswer(StrictModel):
    """An answer of several tokens, and the one of them that is read."""

    text: Text = Field(description="the answer as it continues the prompt")
    token: Annotated[str, NameOf("a token of an answer", ("first",))] = Field(description="which token: `first`")


TokenIds = Annotated[tuple[TokenId, ...], Field(min_length=1), LIST]
Prompt = Annotated[
    Annotated[Text, TEXT] | TokenIds | Annotated[Conversation, MAPPING],
    either("text, a list of token ids, or `messages`"),
]
AnswerToken = Annotated[
    Annotated[Text, TEXT] | Annotated[TokenId, NUMBER] | Annotated[LongAnswer, MAPPING],
    either("text, a token id, or `text` and `token: first`"),
]


class Prompts(StrictModel):
    """Two prompts of equal token length, and the tokens after them that `logit_diff` and `log_prob` read.

    Without answers the most likely token of each run is its answer.
    """

    clean: Prompt = Field(description="text, a list of token ids, or `messages` for the chat template")
    corrupted: Prompt = Field(description="the same, as many tokens as `clean` has")
    answer: AnswerToken | None = Field(
        default=None, description="the right answer: the token after the prompt, as text or id"
    )
    wrong: AnswerToken | None = Field(default=None, description="the wrong answer, likewise")
    special_tokens: bool = Field(
        default=True, description="whether the tokenizer adds what it adds to text, such as BOS"
    )

    @model_validator(mode="after")
    def _answers_come_in_pairs(self) -> Self:
        if (self.answer is None) != (self.wrong is None):
            given, lacking = ("answer", "wrong") if self.wrong is None else ("wrong", "answer")
            raise refuse([Refusal((given,), f"{given!r} needs {lacking!r} beside it; give both or neither")])
        if self.answer is not None and self.answer == self.wrong:
            raise refuse([Refusal(("wrong",), "is the same as 'answer'; no metric could tell them apart")])
        return self

    @model_validator(mode="after")
    def _special_tokens_are_added_to_text(self) -> Self:
        if not self.special_tokens and not any(isinstance(each, str) for each in (self.clean, self.corrupted)):
            message = "says nothing here: they are added to text, and neither prompt is text"
            raise refuse([Refusal(("special_tokens",), message)])
        return self


class PairsFile(StrictModel):
    """A file of pairs: JSON lines that hold what `prompts` may hold, or a table of text."""

    file: Text = Field(description="`pairs.jsonl` or `pairs.csv`, from the file that names it, below the case's folder")

    @model_validator(mode="before")
    @classmethod
    def _stands_alone(cls, given: Any) -> Any:
        beside = [key for key in given if key != "file"] if isinstance(given, dict) else []
        if beside:
            message = "has no place beside 'file', whose pairs say all of it"
            raise refuse([Refusal((key,), message, at_key=True) for key in beside])
        return given


def _each_once(pairs: tuple[Prompts, ...]) -> tuple[Prompts, ...]:
    first = {pair: index for index, pair in reversed(list(enumerate(pairs)))}
    refusals = [
        Refusal((index,), f"is pair {first[pair] + 1} once more, which would count twice in the mean")
        for index, pair in enumerate(pairs)
        if first[pair] != index
    ]
    if refusals:
        raise refuse(refusals)
    return pairs


def _form(value: Any) -> str | None:
    match value:
        case PairsFile() | {"file": _}:
            return "of-file"
        case Prompts() | dict():
            return "mapping"
        case list() | tuple():
            return "list"
    return None


Pairs = Annotated[
    Annotated[Prompts, MAPPING]
    | Annotated[tuple[Prompts, ...], Field(min_length=1), AfterValidator(_each_once), LIST]
    | Annotated[PairsFile, Tag("of-file")],
    Discriminator(
        _form,
        custom_error_type="misfit",
        custom_error_message="expected a pair of prompts, a list of pairs, or `file`",
    ),
]
"""One pair, or several whose recoveries are averaged; `harness.casefile.compose.pairs` reads a file of them."""


Part = TypeVar("Part", bound=StrictModel)


def as_in_a_case(part: type[Part], value: Any, name: str) -> Part:
    """Return a part of the language from the mapping that a case file would hold. Raises PromptError."""
    try:
        return part.model_validate_json(json.dumps(value))
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, each['loc']))} {each['msg']}".strip() for each in error.errors())
        raise PromptError(f"{name} {value!r} is not what a case may say here: {'; '.join(faults)}") from error
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name} {value!r} is not what a case may say here: {error}") from error
