"""Qwen's tokenizer, from the wheel `dashscope`.

The wheel carries `qwen.tiktoken`: 151,643 byte-pair ranks, the regular tokens that every Qwen model from the first to
Qwen3 shares. Models of 151,936 rows pad above the special tokens, so an id may have no text; it decodes to `<id>`.
The pattern and the special tokens are those of Qwen's own `tokenization_qwen.py`; text is NFC-normalized first.
"""

from __future__ import annotations

import binascii
import unicodedata
import zipfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from harness.models.sources.wheel import WheelAsset

RANKS = "qwen.tiktoken"
MEMBER = f"dashscope/resources/{RANKS}"
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = {"<|endoftext|>": 151_643, "<|im_start|>": 151_644, "<|im_end|>": 151_645}


class QwenTokenizer:
    """Text to Qwen's token ids, all below `SIZE`, and back."""

    SIZE = 151_646

    def __init__(self, ranks_file: Path):
        import tiktoken

        self._bpe = tiktoken.Encoding(
            "qwen", pat_str=PATTERN, mergeable_ranks=_ranks(ranks_file), special_tokens=SPECIAL
        )

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`; special tokens written out in it count as such."""
        return self._bpe.encode(unicodedata.normalize("NFC", text), allowed_special="all")

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`; half a character shows as U+FFFD, an id without text as `<id>`."""
        runs = groupby(ids, key=lambda token: 0 <= token < self.SIZE)
        return "".join(
            self._bpe.decode(list(run)) if known else "".join(f"<{token}>" for token in run) for known, run in runs
        )


def _ranks(file: Path) -> dict[bytes, int]:
    # A line is a token in base 64 and its rank; split at once, which takes a third of the time.
    words = file.read_bytes().split()
    return dict(zip(map(binascii.a2b_base64, words[::2]), map(int, words[1::2]), strict=True))


def convert(archive: zipfile.ZipFile, folder: Path) -> None:
    """Write the ranks file into `folder`."""
    (folder / RANKS).write_bytes(archive.read(MEMBER))


QWEN = WheelAsset(
    what="Qwen's tokenizer",
    distribution="dashscope",
    version="2.0.2",
    sha256="0602d1800f7433bdb7953560986eaf5146454ed3988636c0a91963ba24e74258",
    megabytes=2,
    license="Apache-2.0 as declared by the wheel",
    conversion=1,
    files=(RANKS,),
    convert=convert,
)
