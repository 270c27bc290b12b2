"""Known failures: what an engine is known to do wrong, in a file beside its cases, so that the rest can be gated.

    known:
      - {law: residual, row: "dial-*", reason: "issue 12: the last block is left out"}
      - {finding: REF001, engine: "mylib:patch", case: capital, reason: "issue 12"}

An entry with a `law` speaks of `harness conformance`, one with a `finding` of `harness run`. It is strict: where all
that it names was asked and none of it fails any more, the run fails and says which entry to delete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, TypeAdapter, model_validator

from harness.casefile.language.expected import FAILING
from harness.casefile.language.fields import Engine, NameOf, Refusal, StrictModel, Text, refuse
from harness.casefile.syntax.document import Document, shown
from harness.casefile.syntax.yamlfile import load_document
from harness.casefile.validation.validate import validate
from harness.vocabulary.errors import CaseFileError, Problem, UsageError, suggest
from harness.vocabulary.verdict import MENDED

# A job whose process was ended, or whose device failed: nothing is known of what it would have said.
_KNOWABLE = tuple(code for code in FAILING if code not in ("ENG002", "ENG003"))
Pattern = Annotated[Text, Field(description="a name, or a pattern such as 'qwen3-*'")]


class KnownEntry(StrictModel):
    """One known failure; every name may be a pattern, and one that is left out means all."""

    law: Text | None = Field(default=None, description="the law that `harness conformance` finds broken")
    row: Pattern | None = None
    finding: Annotated[str, NameOf("a finding that can be known", _KNOWABLE)] | None = None
    case: Pattern | None = None
    model: Pattern | None = None
    engine: Engine | None = None
    kind: Text | None = Field(default=None, description="only this kind of mistake, as the JSON names it")
    reason: Text = Field(description="why, or the issue that has it; shown with every known failure")

    @model_validator(mode="after")
    def _one_command(self) -> Self:
        if (self.law is None) is (self.finding is None):
            raise refuse(
                [Refusal((), "needs `law`, of harness conformance, or `finding`, of harness run; one of them")]
            )
        foreign = ("case", "model") if self.law else ("row",)
        if wrong := [name for name in foreign if getattr(self, name) is not None]:
            goes = "`case` and `model` go with `finding`" if self.law else "`row` goes with `law`"
            raise refuse([Refusal((name,), goes, at_key=True) for name in wrong])
        return self

    def speaks_of(self, place: Asking) -> bool:
        """Return whether a question is one that this entry is about."""
        names = vars(place)
        given = {name: getattr(self, name) for name in ("law", "row", "case", "model", "engine")}
        meant = all(names[name] and fnmatchcase(names[name], wanted) for name, wanted in given.items() if wanted)
        return meant and bool(self.law) is bool(place.law)

    def explains(self, failure: Failed) -> bool:
        """Return whether a failure of such a question is the one that is known."""
        return failure.what in (self.law, self.finding) and (self.kind is None or fnmatchcase(failure.kind, self.kind))

    def __str__(self) -> str:
        where = [value for value in (self.row, self.case, self.model) if value]
        return f"{self.law or self.finding}{f' on {chr(32).join(where)}' if where else ''}"


@dataclass(frozen=True)
class Asking:
    """A question that an entry may speak of: a law on a row, or a case on a model, asked of an engine."""

    engine: str
    law: str = ""
    row: str = ""
    case: str = ""
    model: str = ""


@dataclass(frozen=True)
class Failed:
    """The law that is broken, or the code of the finding, and the kind of mistake where one is known."""

    what: str
    kind: str = ""


class Ending(Enum):
    """What came of a question: an answer that passed or failed, nothing to ask here, or it was not asked to the end."""

    ENDED = "ended"
    MOOT = "moot"
    ABSENT = "absent"


@dataclass(frozen=True)
class Ended:
    """A question, what came of it, and how it failed."""

    place: Asking
    ending: Ending
    failures: tuple[Failed, ...] = ()


@dataclass(frozen=True)
class KnownVerdict:
    """What a run showed of the entries: which of them fail no more, what a reader must be told, and the others."""

    stale: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    kept: tuple[KnownEntry, ...] = ()


@dataclass(frozen=True)
class KnownFailures:
    """The entries of a file and the place of each; no file has none."""

    path: Path | None = None
    entries: tuple[KnownEntry, ...] = ()
    places: tuple[tuple[int, int], ...] = field(default=())

    def reason(self, place: Asking, failure: Failed) -> str:
        """Return why a failure is known, or nothing where it is not."""
        return next((e.reason for e in self.entries if e.speaks_of(place) and e.explains(failure)), "")

    def verdict(self, asked: Sequence[Ended]) -> KnownVerdict:
        """Return what the questions of a whole run say of the entries."""
        stale, unasked, kept = [], [], []
        for entry, (line, column) in zip(self.entries, self.places, strict=True):
            meant = [each for each in asked if entry.speaks_of(each.place)]
            if any(entry.explains(failure) for each in meant for failure in each.failures):
                kept.append(entry)
                continue
            endings = {each.ending for each in meant}
            if Ending.ENDED in endings and Ending.ABSENT not in endings:
                stale.append(f"{self.path}:{line}:{column}: {entry} {MENDED} ({entry.reason})")
            else:
                kept.append(entry)
                unasked.append(f"{self.path}:{line} {entry}")
        notes = [f"known failures not asked here, or not everywhere: {', '.join(unasked)}"] if unasked else []
        open_ = sum(entry.reason == PLACEHOLDER for entry in self.entries)
        if open_:
            notes.append(f"{self.path}: {open_} of {len(self.entries)} known failures have no reason yet")
        return KnownVerdict(tuple(stale), tuple(notes), tuple(kept))


PLACEHOLDER = "TODO: why, or the issue that has it"
"""The reason that a written file has until somebody knows better."""


class _KnownFile(StrictModel):
    known: tuple[KnownEntry, ...]


def known_failures(path: Path, laws: Mapping[str, str], rows: Iterable[str]) -> KnownFailures:
    """Read a file of known failures; `laws` are name -> code, `rows` the names of all rows.

    Raises UsageError where it cannot be read, CaseFileError with every fault in it as file:line:column.
    """
    document = load_document(path)
    if document.data.get("known") == []:
        return KnownFailures(path)
    found = validate(TypeAdapter(_KnownFile), document)
    if problems := list(_unknown_names(document, found.known, laws, rows)):
        raise CaseFileError(problems)
    places = tuple(document.place(("known", index)).key for index in range(len(found.known)))
    return KnownFailures(path, found.known, places)


def _unknown_names(
    document: Document, entries: Sequence[KnownEntry], laws: Mapping[str, str], rows: Iterable[str]
) -> Iterator[Problem]:
    known: dict[str, list[str]] = {"law": list(laws), "row": list(rows) if any(e.row for e in entries) else []}
    for index, entry in enumerate(entries):
        for key, names in known.items():
            name = getattr(entry, key)
            if name and not any(fnmatchcase(each, name) for each in names):
                near = next((f"it is the code of {law!r}" for law, code in laws.items() if code == name), "")
                message = f"{shown(name)} is not a {key}; {near or suggest(name, names)}"
                yield document.problem(("known", index, key), message)


def written(found: Iterable[KnownEntry]) -> str:
    """Return the text of a file with these entries."""
    import json

    lines = [
        "# Known failures: `--known` lets them pass, and fails where one is mended; `reason` is for the next reader."
    ]
    entries = [
        ", ".join(
            f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in each.model_dump().items() if value
        )
        for each in found
    ]
    return "\n".join([*lines, "known:" if entries else "known: []", *(f"  - {{{entry}}}" for entry in entries)]) + "\n"


def refuse_to_replace(path: Path, known: Path | None) -> None:
    """Raise UsageError where a file of reasons would be lost: one that exists and was not read."""
    if path.exists() and path.read_bytes().strip() and (known is None or path.resolve() != known.resolve()):
        raise UsageError(f"{path} exists; give it as --known too, so that the reasons in it are kept")
