"""What is odd about the tokens of a prompt, though a model reads them without complaint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

from harness.casefile import Conversation, Prompts
from harness.models.loaded import LoadedModel, Tokenizer
from harness.models.tokens import listed
from harness.models.wording import Prompt, worded
from harness.vocabulary import Finding, Question
from harness.vocabulary.words import number_of


def remarks(model: LoadedModel, given: Prompts, question: Question) -> list[Finding]:
    """Return TOK001 to TOK003 about the prompts of a question, as they were given.

    What is true of both prompts in the same words is said once.
    """
    if model.tokenizer is None:
        return []
    said: dict[tuple[str, str], dict[str, list[int]]] = {}
    for name in ("clean", "corrupted"):
        ids = getattr(question, name).ids
        for about in _about(model.tokenizer, getattr(given, name), ids, given.special_tokens):
            said.setdefault(about, {})[name] = list(ids)
    return [Finding(code, f"{', '.join(names)}: {text}", evidence=names) for (code, text), names in said.items()]


def _about(tokenizer: Tokenizer, prompt: Prompt, ids: Sequence[int], special_tokens: bool) -> Iterator[tuple[str, str]]:
    if isinstance(prompt, str | Conversation):
        bare = worded(tokenizer, prompt, "the prompt", special_tokens).bare()
        front, back = _around(bare, ids)
        bos = getattr(tokenizer, "bos_token_id", None)
        if (front and bare[: len(front)] == front) or (bos is not None and ids[:2] == (bos, bos)):
            twice = listed(tokenizer, ids[: 2 * (len(front) or 1)])
            yield "TOK001", f"begins with {twice}"
        if back:
            yield "TOK002", f"ends with {listed(tokenizer, back)}, which the tokenizer adds"
    if pads := _pads_in_front(tokenizer, ids):
        pad = listed(tokenizer, ids[:1])
        yield "TOK003", f"begins with the pad token {pad}, {pads} of its {number_of(len(ids), 'token')}"


def _around(bare: Sequence[int], ids: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
    """Return the special tokens that stand before and after the text's own tokens in a prompt."""
    # From behind: of a prompt that is nothing but BOS, the last one is the text's.
    for start in reversed(range(len(ids) - len(bare) + 1)):
        if ids[start : start + len(bare)] == bare:
            return ids[:start], ids[start + len(bare) :]
    return (), ()


def _pads_in_front(tokenizer: Tokenizer, ids: Sequence[int]) -> int:
    """Count the pad tokens that a prompt begins with; where the pad token is BOS too, the first one is BOS."""
    pad = getattr(tokenizer, "pad_token_id", None)
    count = sum(1 for _ in takewhile(lambda token: token == pad, ids))
    return count - (count > 0 and pad == getattr(tokenizer, "bos_token_id", None))
