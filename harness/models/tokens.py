"""Prompts as a model reads them."""

from __future__ import annotations

from collections.abc import Sequence

from harness.models.loaded import LoadedModel, Tokenizer
from harness.vocabulary import Tokens
from harness.vocabulary.errors import PromptError


def read(model: LoadedModel, prompt: str | Sequence[int], name: str = "prompt") -> Tokens:
    """Tokenize a prompt, or take token ids as they are.

    Raises PromptError for an empty prompt, for text on a model without a tokenizer, and for an id outside the
    vocabulary: an embedding looks such an id up without complaint and returns whatever lies there.
    """
    ids = _encode(model.tokenizer, prompt, name) if isinstance(prompt, str) else tuple(int(i) for i in prompt)
    if not ids:
        raise PromptError(f"{name} is empty; give at least one token")
    vocab = model.card.vocab
    outside = [i for i in ids if i < 0 or (vocab and i >= vocab)]
    if outside:
        raise PromptError(f"{name}: token id {outside[0]} is outside the vocabulary of {vocab:,}")
    return Tokens(ids, tuple(piece(model.tokenizer, i) for i in ids))


def single(model: LoadedModel, answer: str | int, name: str) -> int:
    """Return the token id of an answer given as an id or as text of exactly one token."""
    tokens = read(model, answer if isinstance(answer, str) else [answer], name)
    if len(tokens.ids) != 1:
        raise PromptError(f"{name} {answer!r} is {len(tokens.ids)} tokens {list(tokens.texts)}; give one token")
    return tokens.ids[0]


def piece(tokenizer: Tokenizer | None, token: int) -> str:
    """Return the text of one token, or its id in brackets where no tokenizer can say."""
    return tokenizer.decode([token]) if tokenizer is not None else f"<{token}>"


def _encode(tokenizer: Tokenizer | None, text: str, name: str) -> tuple[int, ...]:
    if tokenizer is None:
        raise PromptError(f"{name} is text and the model has no tokenizer; give a list of token ids")
    return tuple(tokenizer.encode(text)) if text.strip() else ()
