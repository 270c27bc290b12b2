"""From a path to a document: the file's bytes, then its text, then (`builder.py`) its data.

A file that cannot be opened is a `UsageError`; whatever is wrong inside it is a `CaseFileError` with places.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from harness.casefile.syntax.builder import Builder, position_after
from harness.casefile.syntax.document import Document
from harness.vocabulary.errors import CaseFileError, Problem, UsageError

# PyYAML reads about 50 kB a second, and 256 KiB hold some 40,000 token ids: more than any prompt here needs.
MAX_BYTES = 256 * 1024


def load_document(path: Path, *, as_written: bool = False) -> Document:
    """Read one YAML file; UsageError if it cannot be read, CaseFileError for what is wrong in it.

    `as_written` keeps numbers as text.
    """
    return Builder(path, read_text(path), as_written).document()


def read_text(path: Path, most: int = MAX_BYTES) -> str:
    """Return the text of a file of at most so many bytes; raises what `load_document` does."""
    return _decode(path, _read(path, most))


def _read(path: Path, most: int) -> bytes:
    try:
        if not path.is_file():
            raise UsageError(f"{path}: {_not_a_file(path)}")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(content) > most:
        raise CaseFileError([Problem(str(path), 1, 1, "", f"larger than {most:,} bytes; this is no case file")])
    return content


def _not_a_file(path: Path) -> str:
    if path.is_dir():
        return "is a folder; a file is needed here"
    return "is not a regular file" if path.exists() else f"does not exist{nearest_path(path)}"


def nearest_path(path: Path) -> str:
    """Return `; did you mean 'x'?` for the entry of the same folder whose name is nearest, or nothing."""
    try:
        # A link to nothing has the name itself.
        names = [entry.name for entry in path.parent.iterdir() if entry.name != path.name]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, sorted(names), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # `object` and `start` leave out a byte order mark, which takes no column either.
        before = error.object[: error.start].decode("utf-8", "replace")
        message = f"byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise CaseFileError([Problem(str(path), *position_after(before), "", message)]) from None
