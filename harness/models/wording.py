"""A prompt as the text that a tokenizer is given: written in the case, or by the tokenizer's own chat template."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
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
        """Return the ids of the text and what follows it, without special tokens where the tokenizer has the choice."""
        return self._encode(self.text + more, self.added and not _has_a_choice(self.tokenizer))

    def _encode(self, text: str, special_tokens: bool) -> tuple[int, ...]:
        if special_tokens:
            return tuple(self.tokenizer.encode(text))
        if _has_a_choice(self.tokenizer):
            encode: Any = self.tokenizer.encode
            return tuple(encode(text, add_special_tokens=False))
        if added := list(self.tokenizer.encode("")):
            raise PromptError(
                f"{self.name}: the tokenizer adds {added} to every text and takes no `add_special_tokens=False`"
            )
        return tuple(self.tokenizer.encode(text))


def worded(tokenizer: Tokenizer | None, prompt: str | Conversation, name: str, special_tokens: bool = True) -> Wording:
    """Return a prompt as text. Raises PromptError without a tokenizer, and without a template for messages."""
    if tokenizer is None:
        kind = "is text" if isinstance(prompt, str) else "has messages"
        raise PromptError(f"{name} {kind} and the model has no tokenizer; give a list of token ids")
    if isinstance(prompt, str):
        return Wording(name, tokenizer, prompt, special_tokens)
    return Wording(name, tokenizer, _templated(tokenizer, prompt, name), added=False)


def _has_a_choice(tokenizer: Tokenizer) -> bool:
    try:
        parameters = inspect.signature(tokenizer.encode).parameters
    except (TypeError, ValueError):  # a method of an extension module may have no signature
        return False
    return "add_special_tokens" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _templated(tokenizer: Tokenizer, prompt: Conversation, name: str) -> str:
    render: Callable[..., str] | None = getattr(tokenizer, "apply_chat_template", None)
    has_template = getattr(tokenizer, "has_chat_template", getattr(tokenizer, "chat_template", None) is not None)
    if render is None or not has_template:
        raise PromptError(f"{name} has messages, and the model's tokenizer has no chat template; write it as text")
    turns = [turn.model_dump() for turn in prompt.messages]
    own = turns[-1]["role"] == "assistant"
    how = {"continue_final_message": True} if own else {"add_generation_prompt": True}
    try:
        return render(turns, tokenize=False, **how)
    except Exception as error:  # a template is code of the model's authors, and refuses in its own ways
        raise PromptError(f"{name}: the chat template refuses the messages: {described(error)}") from error
