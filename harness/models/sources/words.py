"""A tokenizer without a vocabulary file, for models whose weights mean nothing anyway.

Text splits into words and punctuation marks, a leading space staying with its piece; an id is the CRC-32 of the piece
modulo the vocabulary, the same on every machine. Replacing one word by another leaves the number of tokens alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from zlib import crc32

PIECE = re.compile(r" ?\w+| ?[^\w\s]|\s+")


class WordTokenizer:
    """Text to ids below `vocab` and back; it can only decode what it encoded before."""

    def __init__(self, vocab: int):
        self.vocab = vocab
        self._pieces: dict[int, str] = {}

    def encode(self, text: str) -> list[int]:
        """Return one id for each piece of `text`."""
        return [self._remember(piece) for piece in PIECE.findall(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the pieces of `ids` joined; an id that was never encoded shows as `<id>`."""
        return "".join(self._pieces.get(token, f"<{token}>") for token in ids)

    def _remember(self, piece: str) -> int:
        token = crc32(piece.encode()) % self.vocab
        self._pieces.setdefault(token, piece)
        return token
