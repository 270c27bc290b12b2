"""`include:` - what several cases share stands in a file beside them, under `defaults:`.

    # cases/common.yaml                   # cases/capital.case.yaml
    defaults:                             include: common.yaml
      metrics: [l2, mse]                  models: [smollm2-135m-f32]
      tolerance: {recovery_points: 2}     tolerance: {baseline_relative: 0.01}

The case's own keys win; of several files the later one wins, and a file wins over what it includes itself. Names count
from the file that includes, and lead nowhere outside the folder of the case: a case someone sends must not read
anything but what it came with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from harness.casefile.compose.overlay import overlaid
from harness.casefile.language.fields import DISTINCT, LIST, TEXT, Refusal, Text, either, refuse
from harness.casefile.syntax.document import Document, KeyPath
from harness.casefile.syntax.yamlfile import load_document
from harness.casefile.validation.validate import validate
from harness.vocabulary.errors import CaseFileError, Problem, UsageError

CASE_SUFFIX = ".case.yaml"
# Files that include each other crosswise are read once for each way to them; nobody needs as many.
MAX_INCLUDES = 32

Includes = Annotated[
    Annotated[Text, TEXT] | Annotated[tuple[Text, ...], Field(min_length=1), DISTINCT, LIST],
    either("the name of a file or a list of them"),
]


def _shareable(defaults: dict[str, Any]) -> dict[str, Any]:
    refusals = [Refusal((key,), reason, at_key=True) for key, reason in _NOT_SHARED.items() if key in defaults]
    if refusals:
        raise refuse(refusals)
    return defaults


_NOT_SHARED = {
    "id": "belongs to one case; leave it out here",
    "include": "stands beside `defaults`, not in it",
    "defaults": "is where this stands already",
}


class DefaultsFile(BaseModel):
    """A file that cases include: keys of a case under `defaults`, and further files that it includes itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    include: Includes | None = Field(default=None, description="files that this one includes itself")
    defaults: Annotated[dict[str, Any], AfterValidator(_shareable)] = Field(
        description="keys of a case, all but `id` and `include`"
    )


@dataclass
class Including:
    """Reads what a case includes; `problems` holds what went wrong on the way."""

    root: Path
    """The folder of the case; nothing outside it is read."""
    problems: list[Problem] = field(default_factory=list)
    read: int = 0

    def completed(self, document: Document, chain: tuple[Path, ...]) -> Document:
        """Return a document over everything it includes; `chain` holds the files that led here, resolved."""
        below: Document | None = None
        for path, name in _included(document):
            try:
                found = self._defaults(document, path, name, chain)
            except CaseFileError as error:
                self.problems += error.problems
                continue
            below = found if below is None else overlaid(below, found)
        return document if below is None else overlaid(below, document)

    def _defaults(self, document: Document, path: KeyPath, name: str, chain: tuple[Path, ...]) -> Document:
        target = document.place(path).file.parent / name
        if refusal := self._refusal(name, target, chain):
            raise CaseFileError([document.problem(path, refusal)])
        self.read += 1
        try:
            found = load_document(target)
        except CaseFileError:
            raise
        except UsageError as error:
            message = str(error).removeprefix(f"{target}: ")
            raise CaseFileError([document.problem(path, f"{name}: {message}")]) from None
        validate(TypeAdapter(DefaultsFile), found)
        own = found.under("defaults")
        # The file's own `include` stands outside `defaults`, and below them.
        return self.completed(_with_include(own, found), (*chain, target.resolve()))

    def _refusal(self, name: str, target: Path, chain: tuple[Path, ...]) -> str | None:
        if refusal := outside(name, target, self.root, "include files"):
            return refusal
        if (resolved := target.resolve()) in chain:
            names = [*(path.name for path in chain[chain.index(resolved) :]), resolved.name]
            return f"goes in a circle: {' -> '.join(names)}"
        if target.name.endswith(CASE_SUFFIX):
            return f"{name!r} is a case; what is shared stands under `defaults:` in a file that is none"
        return f"more than {MAX_INCLUDES} files are included" if self.read >= MAX_INCLUDES else None


def outside(name: str, target: Path, root: Path, instead: str) -> str | None:
    """Return why a file that a case names is not read, if it leads outside the folder of the case; `instead` is what to
    do in that folder."""
    try:
        resolved = target.resolve()
    except (OSError, ValueError, RuntimeError) as error:
        return f"{name!r} is no name of a file: {error}"
    if Path(name).is_absolute() or not resolved.is_relative_to(root.resolve()):
        return f"{name!r} leads outside {root}, the folder of the case; {instead} in it or below it"
    return None


def with_includes(document: Document) -> tuple[Document, list[Problem]]:
    """Return a case file's document over all that it includes, and every problem with the files."""
    including = Including(document.path.parent)
    return including.completed(document, (document.path.resolve(),)), including.problems


def _included(document: Document) -> list[tuple[KeyPath, str]]:
    """Return the names of files to include and their key paths; validation says what is no name."""
    value = document.data.get("include")
    if isinstance(value, str):
        return [(("include",), value)]
    names = value if isinstance(value, list) else []
    return [(("include", index), name) for index, name in enumerate(names) if isinstance(name, str)]


def _with_include(own: Document, file: Document) -> Document:
    if "include" not in file.data:
        return own
    places = {path: place for path, place in file.places.items() if path[:1] == ("include",)}
    return Document(own.path, {**own.data, "include": file.data["include"]}, {**own.places, **places})
