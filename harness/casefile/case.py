"""The `Case`: what a case file means, in the nouns of the harness."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from harness.casefile.document import KeyPath, shown
from harness.casefile.fields import PATTERN_WORDS, SLUG
from harness.casefile.schema import CaseFile, Expect, Prompts, SweepFields, Tolerance
from harness.casefile.validation import validate
from harness.casefile.yamlfile import load_document
from harness.errors import CaseFileError, Problem
from harness.vocabulary import Sweep

SUFFIX = ".case.yaml"


@dataclass(frozen=True)
class Case:
    """One declarative test case, to be run on each of `models` through each of `engines`.

    Names of models, engines and components are well-formed but not resolved: only the model table, the engines and
    the loaded model know them. `lines` maps key paths to 1-based lines of the file, for annotations.
    """

    id: str
    path: Path
    about: str
    tags: tuple[str, ...]
    models: tuple[str, ...]
    engines: tuple[str, ...]
    prompts: Prompts
    sweep: Sweep
    metrics: tuple[str, ...]
    checks: tuple[str, ...]
    tolerance: Tolerance
    expect: Expect
    precision: bool = False
    lines: Mapping[KeyPath, int] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, written: CaseFile, path: Path, lines: Mapping[KeyPath, int] | None = None) -> Case:
        """Return the case that a case file means; CaseFileError if neither it nor its name gives an id."""
        return cls(
            id=written.id or _id_from_name(path),
            path=path,
            about=written.about,
            tags=written.tags,
            models=written.models,
            engines=written.engines,
            prompts=written.prompts,
            sweep=_sweep(written.sweep),
            metrics=written.metrics,
            checks=written.checks,
            tolerance=written.tolerance,
            expect=written.expect,
            precision=written.precision,
            lines=lines or {},
        )

    def expectation(self, engine: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the codes that must appear and those that may appear in this case's jobs on an engine."""
        expected = self.expect.engines.get(engine, self.expect)
        return expected.findings, expected.may_find

    def line_of(self, *key_path: str | int) -> int:
        """Return the line of an entry, `line_of("metrics", 1)`, or of the innermost written entry around it."""
        while key_path and key_path not in self.lines:
            key_path = key_path[:-1]
        return self.lines.get(key_path, 1)


def load_case(path: Path) -> Case:
    """Return the case in a file; UsageError if it cannot be read, CaseFileError with every fault of its content."""
    document = load_document(path)
    lines = {key_path: place.key[0] for key_path, place in document.places.items()}
    return Case.of(validate(TypeAdapter(CaseFile), document), path, lines)


def _id_from_name(path: Path) -> str:
    stem = path.name.removesuffix(SUFFIX)
    # Python's $ also matches before a line end, which a file name may hold.
    if not re.fullmatch(SLUG.removesuffix("$"), stem):
        message = f"is missing, and the file's name gives none: expected {PATTERN_WORDS[SLUG]}, found {shown(stem)}"
        raise CaseFileError([Problem(str(path), 1, 1, "id", message)])
    return stem


def _sweep(written: SweepFields) -> Sweep:
    layers = None if isinstance(written.layers, str) else written.layers
    return Sweep(written.components, layers, written.direction, written.positions, written.strategy)
