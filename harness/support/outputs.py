"""Files that commands write: what each kind ends in, and how an earlier one is known again.

An output is checked before the hour of work. It may take the place of nothing but an empty file or an earlier output of
its own kind, so that a slip of the hand (`--json cases/a.case.yaml`) costs nobody a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.vocabulary.errors import UsageError

_ENDS = 8192
"""Bytes read at either end of a file to know it again."""


@dataclass(frozen=True)
class OutputKind:
    """One kind of output: its name in messages, its suffixes, and a pattern that is at either end of each such file."""

    noun: str
    suffixes: tuple[str, ...]
    mark: str


def _json(noun: str, mark: str) -> OutputKind:
    return OutputKind(noun, (".json",), mark)


def _schema(noun: str, name: str) -> OutputKind:
    return _json(noun, rf'"schema": "mlx-patch-harness/{name}/')


_PICTURES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp", ".eps", ".ps", ".tif", ".tiff")

OUTPUTS: Mapping[str, OutputKind] = {
    "result": _schema("a result", "result"),
    "conformance": _schema("a conformance matrix", "conformance"),
    "diagnosis": _schema("a diagnosis", "diagnosis"),
    "comparison": _json("a comparison", r'\A\{\s*"environment": '),
    "zoo": _json("what was said of the plantings", r'\A\{\s*"plantings": '),
    "printed": _json(
        "what a command printed",
        r'\A(\[\s*\{\s*"(id|job)"|\[\]|\{\s*"(valid|fit)"|\{\s*"schema": "mlx-patch-harness/replay/)',
    ),
    "html": OutputKind("an HTML report", (".html", ".htm"), r"<title>harness: "),
    "markdown": OutputKind("a Markdown report", (".md",), r"\A## (\S+ harness: |harness compare: |Conformance of )"),
    "page": OutputKind("a page", (".md",), r"(This page is written|Made with [^`]*)\s+by\s+`harness\s"),
    "junit": OutputKind("a JUnit report", (".xml",), r"<testsuites?[ >]"),
    "case": OutputKind("a diagnosed case", (".yaml",), r"\Aabout: .*\ntags: \[diagnosed\]"),
    "known": OutputKind("a file of known failures", (".yaml", ".yml"), r"(?m)^known:"),
    "picture": OutputKind("a picture", _PICTURES, r"Matplotlib|\A\xff\xd8|\ARIFF|\AII\*|\AMM"),
}


def kind_for(path: Path, kinds: Sequence[str]) -> str:
    """Return which of the kinds a path's suffix asks for. Raises UsageError for a suffix that none has."""
    for name in kinds:
        if path.suffix.lower() in OUTPUTS[name].suffixes:
            return name
    known = "; ".join(f"{OUTPUTS[name].noun} ends in {' or '.join(OUTPUTS[name].suffixes[:3])}" for name in kinds)
    ending = f"ends in {path.suffix}" if path.suffix else "has no suffix"
    raise UsageError(f"{path} {ending}; {known}")


def check_output(path: Path, kinds: Sequence[str]) -> None:
    """Raise UsageError unless a file may be written here: its suffix, its folder, and what is there already.

    Pipes and devices take anything, whatever they are called; of several kinds only the suffix tells which is meant.
    """
    special = path.exists() and not path.is_file() and not path.is_dir()
    if not special or len(kinds) > 1:
        kind = kind_for(path, kinds)
    if special:
        return
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise UsageError(f"{path} is a folder")
    if not target.parent.is_dir():
        raise UsageError(f"{path}: the folder {target.parent} does not exist")
    if not os.access(target.parent, os.W_OK) or (target.exists() and not os.access(target, os.W_OK)):
        raise UsageError(f"{path} cannot be written")
    if target.exists() and not _is_earlier(target, OUTPUTS[kind]):
        raise UsageError(
            f"{path} exists, and is no earlier output of this kind ({OUTPUTS[kind].noun}); "
            "it would be lost: give another name, or remove it"
        )


def _is_earlier(file: Path, kind: OutputKind) -> bool:
    try:
        with file.open("rb") as stream:
            start = stream.read(_ENDS)
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _ENDS))
            end = stream.read(_ENDS)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from error
    # Latin-1 gives every byte a letter, so a picture is text as well.
    return not start or any(re.search(kind.mark, part.decode("latin-1")) for part in (start, end))
