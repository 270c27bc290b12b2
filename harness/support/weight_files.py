"""What the header of a safetensors file says, read by hand and held against the file: no array is made.

A safetensors file is an 8-byte length, a JSON header with dtype, shape and byte offsets of every tensor, and the bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.support.inputs import UnreadableInput, checked_size

MOST_HEADER = 100 << 20
"""The format's own limit for a header."""

_DTYPES = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U64": ("uint64", 8),
    "U32": ("uint32", 4),
    "U16": ("uint16", 2),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
    "F8_E4M3": ("uint8", 1),
    "F8_E5M2": ("uint8", 1),
    "C64": ("complex64", 8),
}


class BrokenFile(Exception):
    """A weight file that ends early or has no readable header."""

    def __init__(self, file: str, reason: str, tensor: str | None = None):
        self.file, self.reason, self.tensor = file, reason, tensor
        super().__init__(f"{file}: {reason}")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file: where its bytes are."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.start


def stored_in(file: Path) -> list[StoredTensor]:
    """Return the tensors of one file, in the order of their bytes. Raises BrokenFile."""
    try:
        size = checked_size(file)
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, MOST_HEADER):
                raise BrokenFile(file.name, f"{size:,} bytes hold no header of {length:,} bytes")
            tensors = _tensors(file, stream.read(length))
    except (UnreadableInput, OSError) as error:
        raise BrokenFile(file.name, str(getattr(error, "reason", error))) from error
    for tensor in tensors:
        if tensor.end > size:
            raise BrokenFile(
                file.name, f"{size:,} bytes, but {tensor.name} ends at byte {tensor.end:,}: truncated", tensor.name
            )
    return tensors


def _tensors(file: Path, text: bytes) -> list[StoredTensor]:
    try:
        header: Mapping[str, Any] = json.loads(text)
        found = [_tensor(file, name, entry, 8 + len(text)) for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BrokenFile(file.name, f"its header cannot be read: {error}") from error
    return sorted(found, key=lambda tensor: tensor.start)


def _tensor(file: Path, name: str, entry: Mapping[str, Any], base: int) -> StoredTensor:
    dtype, width = _DTYPES[entry["dtype"]]
    shape, (start, end) = tuple(int(n) for n in entry["shape"]), entry["data_offsets"]
    if min((start, *shape), default=0) < 0 or math.prod(shape) * width != end - start:
        raise ValueError(f"{name} has {end - start} bytes for {list(shape)} of {dtype}")
    return StoredTensor(name, dtype, shape, file, base + start, base + end)
