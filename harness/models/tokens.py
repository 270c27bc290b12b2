"""Prompts and answers as a model reads them: text is what the tokenizer makes of it in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.casefile import Conversation, LongAnswer, Prompts
from harness.casefile.syntax.document import shown
from harness.models.loaded import LoadedModel, Tokenizer
from harness.models.wording import Prompt, Wording, worded
from harness.vocabulary import AnswerTokens, Tokens
from harness.vocabulary.errors import PromptError, UsageError
from harness.vocabulary.words import number_of

AnswerText = str | int | LongAnswer
"""The token after a prompt: as text, as an id, or as the first token of a longer text."""

IN_A_CASE = {"clean": "prompts.clean", "corrupted": "prompts.corrupted", "answer": "answer", "wrong": "wrong answer"}

_SHOWN = 16
"""Tokens of a list that a message shows."""


def read(model: LoadedModel, prompt: Prompt, name: str = "prompt", special_tokens: bool = True) -> Tokens:
    """Tokenize a prompt, or take token ids as they are.

    `special_tokens` says whether the tokenizer adds BOS and its like to text. Raises PromptError for an empty prompt,
    for text on a model without a tokenizer, for messages without a chat template, and for an id outside the
    vocabulary: an embedding looks such an id up without complaint and returns whatever lies there.
    """
    if isinstance(prompt, str | Conversation):
        ids = worded(model.tokenizer, prompt, name, special_tokens).ids()
    else:
        ids = tuple(int(token) for token in prompt)
    if not ids:
        raise PromptError(f"{name} is empty; give at least one token")
    _check_range(model, ids, name)
    return Tokens(ids, tuple(piece(model.tokenizer, i) for i in ids))


def read_prompts(
    model: LoadedModel, given: Prompts, names: Mapping[str, str] = IN_A_CASE
) -> tuple[Tokens, Tokens, AnswerTokens | None]:
    """Return the clean and the corrupted prompt and the answers after them, as cases, commands and notebooks ask them.

    `names` are what the fields of `given` are called where they were given. Raises what `read` and `answer_after` do,
    and PromptError where text makes one token of both answers.
    """
    special = given.special_tokens
    clean = read(model, given.clean, names["clean"], special)
    corrupted = read(model, given.corrupted, names["corrupted"], special)
    if given.answer is None or given.wrong is None:
        return clean, corrupted, None
    answers = {"answer": given.answer, "wrong": given.wrong}
    ids = [answer_after(model, given, answer, names[key]) for key, answer in answers.items()]
    if len({*ids}) == 1 and any(isinstance(answer, str | LongAnswer) for answer in answers.values()):
        both = " and ".join(f"{names[key]} {shown(_text(answer))}" for key, answer in answers.items())
        same = listed(model.tokenizer, ids[:1])
        raise PromptError(f"{both} are the same token {same}; no metric could tell them apart")
    return clean, corrupted, AnswerTokens(*ids)


def read_mean_of(
    model: LoadedModel, given: Sequence[Prompt], value: str = "mean", name: str = "sweep.mean_of", *,
    special: bool = True,
) -> tuple[Tokens, ...]:  # fmt: skip
    """Return the prompts that a sweep with this value puts the mean over in; none where none are given.

    Raises what `read` does, and UsageError where they are given and another value is put in.
    """
    if given and value != "mean":
        raise UsageError(f"{name} says nothing where the value is {value!r}; it is for 'mean'")
    return tuple(read(model, each, f"{name}[{index}]", special) for index, each in enumerate(given))


def answer_after(model: LoadedModel, given: Prompts, answer: AnswerText, name: str) -> int:
    """Return the token id of an answer given as an id, or as the text that continues a clean and a corrupted prompt.

    The token is what ids(prompt + answer) holds after ids(prompt), both without special tokens; after a prompt of token
    ids, which has no text, the answer is read by itself. Raises PromptError where the answer changes how the prompt
    before it is read, where the prompts make different tokens of it, and where it is not one token.
    """
    if isinstance(answer, str | LongAnswer):
        sides = {"clean": given.clean, "corrupted": given.corrupted}
        after = {
            side: _continuation(model, prompt, side, _text(answer), name, given.special_tokens)
            for side, prompt in sides.items()
        }
        token = _one(model, after, answer, name)
    else:
        token = int(answer)
    _check_range(model, [token], name)
    return token


def piece(tokenizer: Tokenizer | None, token: int) -> str:
    """Return the text of one token, or its id in brackets where no tokenizer can say."""
    return tokenizer.decode([token]) if tokenizer is not None else f"<{token}>"


def listed(tokenizer: Tokenizer | None, ids: Sequence[int]) -> str:
    """Return such as `[6864 ' capital', 315 ' of']`; the first and the last tokens where there are many."""
    half = _SHOWN // 2
    ends = [ids] if len(ids) <= _SHOWN else [ids[:half], ids[-half:]]
    return f"[{', ..., '.join(', '.join(f'{token} {piece(tokenizer, token)!r}' for token in each) for each in ends)}]"


def _one(model: LoadedModel, after: dict[str, tuple[int, ...]], answer: str | LongAnswer, name: str) -> int:
    text, first = _text(answer), isinstance(answer, LongAnswer)
    if len({ids[:1] if first else ids for ids in after.values()}) > 1:
        told = " and ".join(f"{listed(model.tokenizer, ids)} after {side}" for side, ids in after.items())
        raise PromptError(f"{name} {shown(text)} is read as {told}; end both prompts alike, or give a token id")
    ids = after["clean"]
    if not ids:
        raise PromptError(f"{name} {shown(text)} adds no token to the prompt")
    if len(ids) > 1 and not first:
        raise PromptError(
            f"{name} {shown(text)} is {number_of(len(ids), 'token')} {listed(model.tokenizer, ids)}; give one token, "
            f"or {{text: {shown(text)}, token: first}} (`patch --first-token`) for the first"
        )
    return ids[0]


def _continuation(
    model: LoadedModel, prompt: Prompt, side: str, answer: str, name: str, special_tokens: bool
) -> tuple[int, ...]:
    if not isinstance(prompt, str | Conversation):
        return worded(model.tokenizer, answer, name).bare()
    wording = worded(model.tokenizer, prompt, f"the {side} prompt", special_tokens)
    try:
        before, whole = wording.bare(), wording.bare(answer)
    except PromptError as error:  # a tokenizer of whole words refuses an answer without a space before it
        why = str(error).removeprefix(f"{wording.name}: ")
        raise PromptError(f"{name} {shown(answer)} after {wording.name}: {why}; {_hint(wording)}") from error
    if whole[: len(before)] != before:
        raise PromptError(_merged(wording, before, whole, answer, name))
    return whole[len(before) :]


def _merged(wording: Wording, before: Sequence[int], whole: Sequence[int], answer: str, name: str) -> str:
    alone, together = (listed(wording.tokenizer, ids) for ids in (before, whole))
    told = f"{name} {shown(answer)} changes how {wording.name} is read: {alone} alone, {together} with it"
    return f"{told}; {_hint(wording)}"


def _hint(wording: Wording) -> str:
    if wording.text[-1:].isspace():
        return "move the space at the end of the prompt to the beginning of the answer"
    return "begin the answer with a space, or give a token id"


def _text(answer: AnswerText) -> str:
    return answer.text if isinstance(answer, LongAnswer) else str(answer)


def _check_range(model: LoadedModel, ids: Sequence[int], name: str) -> None:
    vocab = model.card.vocab
    outside = [i for i in ids if i < 0 or (vocab and i >= vocab)]
    if outside:
        raise PromptError(f"{name}: token id {outside[0]} is outside the vocabulary of {vocab:,}")
