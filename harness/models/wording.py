"""A prompt as the text that a tokenizer is given: written in the case, or by the tokenizer's own chat template."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.casefile import Conversation
from harness.models.loaded import Tokenizer
from harness.vocabulary.errors import PromptError, described

Prompt = str | Sequence[int] | Conversation


@dataclass(frozen=True)
class Wording:
    """The text of a prompt. A chat template writes BOS itself, so nothing is `added` to what it wrote."""

    name: str
    tokenizer: Tokenizer
    text: str
    added: bool
    """Whether the tokenizer adds its special tokens."""

    def ids(self) -> tuple[int, ...]:
        """Return the prompt as the model reads it; nothing for blank text. Raises PromptError."""
        return self._encode(self.text, self.added) if self.text.strip() else ()

    def bare(self, more: str = "") -> tuple[int, ...]:
        """Return the ids of the text and what follows it, without special tokens where they can be left out."""
        return self._encode(self.text + more, self.added and bool(_added_anyway(self.tokenizer)))

    def _encode(self, text: str, special_tokens: bool) -> tuple[int, ...]:
        if not special_tokens and (added := _added_anyway(self.tokenizer)):
            message = f"the tokenizer adds {list(added)} to every text, whatever `add_special_tokens` says"
            raise PromptError(f"{self.name}: {message}")
        try:
            return _ids(self.tokenizer.encode(text)) if special_tokens else _plain(self.tokenizer, text)
        except PromptError:
            raise
        except Exception as error:  # half a character, a tokenizer of the user's own: each raises what it likes
            raise PromptError(f"{self.name}: the tokenizer cannot read it: {described(error)}") from error


def worded(tokenizer: Tokenizer | None, prompt: str | Conversation, name: str, special_tokens: bool = True) -> Wording:
    """Return a prompt as text. Raises PromptError without a tokenizer, and without a template for messages."""
    if tokenizer is None:
        kind = "is text" if isinstance(prompt, str) else "has messages"
        raise PromptError(f"{name} {kind} and the model has no tokenizer; give a list of token ids")
    if isinstance(prompt, str):
        return Wording(name, tokenizer, prompt, special_tokens)
    return Wording(name, tokenizer, _templated(tokenizer, prompt, name), added=False)


def _added_anyway(tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the special tokens that a tokenizer adds to every text although it is told to add none."""
    try:
        ids = _plain(tokenizer, "")
    except Exception:  # noqa: BLE001  a tokenizer of the user's own that refuses empty text does not show what it adds
        return ()
    # To some tokenizers an empty text is a space; those of the user's own may not tell which tokens are special.
    special = getattr(tokenizer, "all_special_ids", ids)
    return tuple(token for token in ids if token in special)


def _plain(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    encode: Any = tokenizer.encode
    return _ids(encode(text, add_special_tokens=False) if _takes_the_option(encode) else encode(text))


def _takes_the_option(encode: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(encode).parameters.values()
    except (TypeError, ValueError):  # a method of an extension module may have no signature
        return False
    return any(each.name == "add_special_tokens" or each.kind is each.VAR_KEYWORD for each in parameters)


def _ids(encoded: Iterable[int]) -> tuple[int, ...]:
    return tuple(int(token) for token in encoded)


def _templated(tokenizer: Tokenizer, prompt: Conversation, name: str) -> str:
    render: Callable[..., Any] | None = getattr(tokenizer, "apply_chat_template", None)
    has_template = getattr(tokenizer, "has_chat_template", getattr(tokenizer, "chat_template", None) is not None)
    if render is None or not has_template:
        raise PromptError(f"{name} has messages, and the model's tokenizer has no chat template; write it as text")
    turns = [turn.model_dump() for turn in prompt.messages]
    own = turns[-1]["role"] == "assistant"
    how = {"continue_final_message": True} if own else {"add_generation_prompt": True}
    try:
        text = render(turns, tokenize=False, **how)
        if not isinstance(text, str):
            raise TypeError(f"it makes {type(text).__name__} and no text of them")
        return text
    except Exception as error:  # a template is code of the model's authors, and refuses in its own ways
        raise PromptError(f"{name}: the chat template refuses the messages: {described(error)}") from error
