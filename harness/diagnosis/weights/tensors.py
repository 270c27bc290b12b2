"""Every tensor of a model, from its files or from memory, in pieces: a model of 17 GB is read through one 16 MB buffer.

The files are read by hand, because to map them would count every page against the process: a safetensors file is an
8-byte length, a JSON header with dtype, shape and byte offsets of every tensor, and the bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from harness.metrics.host import host_bits
from harness.metrics.layouts import dtype_name, layout_named, layout_of

BUFFER = 16 << 20
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
}


class BrokenFile(Exception):
    """A weight file that ends early or has no readable header."""

    def __init__(self, file: str, reason: str, tensor: str | None = None):
        self.file, self.reason, self.tensor = file, reason, tensor
        super().__init__(f"{file}: {reason}")


class Tensor(Protocol):
    """One tensor: `pieces` yields (index of the first value, flat unsigned bits) for float dtypes."""

    @property
    def name(self) -> str: ...

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def nbytes(self) -> int: ...

    def pieces(self) -> Iterator[tuple[int, npt.NDArray[Any]]]: ...

    def flat(self) -> npt.NDArray[Any]: ...


@dataclass(frozen=True)
class FileTensor:
    """A tensor of a safetensors file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.start

    def pieces(self) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        layout = layout_named(self.dtype)
        kind = np.dtype(layout.unsigned if layout else self.dtype)
        buffer = np.empty(min(BUFFER, max(self.nbytes, kind.itemsize)) // kind.itemsize, kind)
        with self.file.open("rb", buffering=0) as stream:
            stream.seek(self.start)
            done = 0
            while done < self.nbytes:
                view = memoryview(buffer.data).cast("B")[: min(buffer.nbytes, self.nbytes - done)]
                got = stream.readinto(view)
                if got != len(view):
                    raise BrokenFile(self.file.name, f"ends inside {self.name}", self.name)
                yield done // kind.itemsize, buffer[: got // kind.itemsize]
                done += got

    def flat(self) -> npt.NDArray[Any]:
        return np.concatenate([piece.copy() for _, piece in self.pieces()] or [np.empty(0, np.uint8)])


@dataclass(frozen=True)
class MemoryTensor:
    """A parameter of a module."""

    name: str
    array: mx.array

    @property
    def dtype(self) -> str:
        return dtype_name(self.array)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    def pieces(self) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        yield 0, self.flat()

    def flat(self) -> npt.NDArray[Any]:
        values = host_bits(self.array) if layout_of(self.array) else np.asarray(self.array)
        return values.reshape(-1)


def of_module(module: Any) -> list[MemoryTensor]:
    """Return every parameter of a module, frozen ones too."""
    from mlx.utils import tree_flatten

    return [MemoryTensor(name, array) for name, array in tree_flatten(module.parameters())]


def of_folder(folder: Path) -> tuple[list[FileTensor], list[BrokenFile]]:
    """Return the tensors of a folder's files, in file order, and what is wrong with the files."""
    found: list[FileTensor] = []
    broken: list[BrokenFile] = []
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))
    for file in files:
        try:
            found += of_file(file)
        except BrokenFile as error:
            broken.append(error)
    broken += _missing(folder, {file.name for file in files}, {tensor.name for tensor in found}, bool(broken))
    return found, broken


def of_file(file: Path) -> list[FileTensor]:
    """Return the tensors of one file, in the order of their bytes. Raises BrokenFile."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, MOST_HEADER):
            raise BrokenFile(file.name, f"{size:,} bytes hold no header of {length:,} bytes")
        try:
            header: Mapping[str, Any] = json.loads(stream.read(length))
            tensors = [
                _tensor(file, name, entry, 8 + length) for name, entry in header.items() if name != "__metadata__"
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BrokenFile(file.name, f"its header cannot be read: {error}") from error
    tensors.sort(key=lambda tensor: tensor.start)
    for tensor in tensors:
        if tensor.end > size:
            raise BrokenFile(
                file.name, f"{size:,} bytes, but {tensor.name} ends at byte {tensor.end:,}: truncated", tensor.name
            )
    return tensors


def _tensor(file: Path, name: str, entry: Mapping[str, Any], base: int) -> FileTensor:
    dtype, width = _DTYPES[entry["dtype"]]
    shape, (start, end) = tuple(int(n) for n in entry["shape"]), entry["data_offsets"]
    if math.prod(shape) * width != end - start:
        raise ValueError(f"{name} has {end - start} bytes for {list(shape)} of {dtype}")
    return FileTensor(name, dtype, shape, file, base + start, base + end)


def _missing(folder: Path, files: set[str], names: set[str], broken: bool) -> Iterator[BrokenFile]:
    """The index of a model in several files says which file has which tensor."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    try:
        where = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError):
        yield BrokenFile(index.name, "is not readable")
        return
    for file in sorted(set(where.values()) - files):
        yield BrokenFile(file, f"is not there, and {index.name} wants it")
    if not broken:
        for name in sorted(name for name, file in where.items() if file in files and name not in names):
            yield BrokenFile(where[name], f"does not hold {name}, which {index.name} says it does", name)
