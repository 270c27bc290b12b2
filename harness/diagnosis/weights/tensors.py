"""Every tensor of a model, from its files or from memory, in pieces: a model of 17 GB is read through one 16 MB buffer.

The files are read by hand, because to map them would count every page against the process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from harness.metrics.host import host_bits
from harness.metrics.layouts import dtype_name, layout_named, layout_of
from harness.support.inputs import read_input
from harness.support.weight_files import BrokenFile, StoredTensor, stored_in
from harness.vocabulary.errors import UsageError

BUFFER = 16 << 20


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


class FileTensor(StoredTensor):
    """A tensor of a safetensors file."""

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
    return [FileTensor(**vars(tensor)) for tensor in stored_in(file)]


def _missing(folder: Path, files: set[str], names: set[str], broken: bool) -> Iterator[BrokenFile]:
    """The index of a model in several files says which file has which tensor."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    try:
        where = json.loads(read_input(index))["weight_map"]
        wanted = {str(name): str(file) for name, file in where.items()}
    except (UsageError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        yield BrokenFile(index.name, "is not readable")
        return
    for file in sorted(set(wanted.values()) - files):
        yield BrokenFile(file, f"is not there, and {index.name} wants it")
    if not broken:
        for name in sorted(name for name, file in wanted.items() if file in files and name not in names):
            yield BrokenFile(wanted[name], f"does not hold {name}, which {index.name} says it does", name)
