"""A tokenizer of a few words: prompts of a ground-truth model read as text, one word a token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.vocabulary.errors import PromptError, suggest


@dataclass(frozen=True)
class Words:
    """Token i is words[i]; ids beyond the list have no word and read as `<id>`."""

    words: tuple[str, ...]

    def encode(self, text: str) -> list[int]:
        """Return one id for each word of the text; PromptError names the first unknown word."""
        return [self._id(word) for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the words of the ids, with a space between two."""
        return " ".join(self.words[i] if 0 <= i < len(self.words) else f"<{i}>" for i in map(int, ids))

    def _id(self, word: str) -> int:
        if word not in self.words:
            raise PromptError(f"{word!r} is not a word of this model; {suggest(word, self.words)}")
        return self.words.index(word)
