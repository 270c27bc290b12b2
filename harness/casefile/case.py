"""The `Case`: what a case file says, with its id and where it was read from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter

from harness.casefile.compose.include import with_includes
from harness.casefile.compose.pairs import with_pairs
from harness.casefile.compose.variants import expanded
from harness.casefile.language.fields import PATTERN_WORDS, SLUG, Refusal
from harness.casefile.language.names import Names, unknown_names
from harness.casefile.language.prompts import Prompts
from harness.casefile.language.rules import beside_the_point, narrowed
from harness.casefile.language.schema import CaseFile
from harness.casefile.syntax.document import MAX_PROBLEMS, Document, KeyPath, dotted, shown
from harness.casefile.syntax.yamlfile import load_document
from harness.casefile.validation.validate import validate
from harness.vocabulary import Sweep, bytes_of
from harness.vocabulary.errors import CaseFileError, Problem, UsageError
from harness.vocabulary.findings import FINDINGS, Severity
from harness.vocabulary.words import number_of

SUFFIX = ".case.yaml"
MAX_ID = 80
_CASE = TypeAdapter(CaseFile)


class Case(CaseFile):
    """What a case file says, as one declarative test case to be run on each of `models` through each of `engines`.

    Names of models, engines and components are well-formed but not resolved: only the model table, the engines and
    the loaded model know them, and `models` may hold patterns and tags. `variant` names the combination of a `matrix`
    that this case is, and ends its id. `document` is what it was read from, for places.
    """

    id: str
    path: Path
    variant: str = ""
    document: Document | None = Field(default=None, repr=False)

    @classmethod
    def of(cls, written: CaseFile, path: Path, document: Document | None = None, variant: str = "") -> Case:
        """Return the case that a case file means; CaseFileError if neither it nor its name gives an id."""
        own = written.id or _id_from_name(path)
        name = f"{own}.{variant}" if variant else own
        # The fields of the file have been validated.
        return cls.model_construct(**{**dict(written), "id": name}, path=path, variant=variant, document=document)

    def having(self, **fields: Any) -> Case:
        """Return the case with some of its fields replaced."""
        assert fields.keys() <= Case.model_fields.keys()
        return self.model_copy(update=fields)

    @property
    def pairs(self) -> tuple[Prompts, ...]:
        """The pairs of prompts: one, or those whose recoveries are averaged."""
        if isinstance(self.prompts, Prompts):
            return (self.prompts,)
        assert isinstance(self.prompts, tuple)  # a file was read with the case
        return self.prompts

    @property
    def is_averaged(self) -> bool:
        """Whether its numbers are means over a list of pairs, which may hold one."""
        return not isinstance(self.prompts, Prompts)

    @property
    def asked_sweep(self) -> Sweep:
        """The sweep as an engine is asked it: no layers named where all are meant, and memory in bytes."""
        own = self.sweep
        layers = None if isinstance(own.layers, str) else own.layers
        memory = None if own.memory is None else bytes_of(own.memory)
        return Sweep(own.components, layers, own.direction, own.positions, own.strategy, memory, own.value)

    def expectation(self, engine: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the codes that must appear and those that may appear in this case's jobs on an engine."""
        expected = self.expect.engines.get(engine, self.expect)
        return expected.findings, expected.may_find

    def must_fail(self, engine: str) -> bool:
        """Return whether its jobs on an engine must fail a check: a warning that must appear fails none."""
        return any(FINDINGS[code].severity is Severity.ERROR for code in self.expectation(engine)[0])

    def line_of(self, *key_path: str | int) -> int:
        """Return the line of an entry, `line_of("metrics", 1)`, or of the innermost around it in this file."""
        if self.document is None:
            return 1
        # The document's own path: that of the case may name the same file otherwise, as pytest does.
        places, own = self.document.places, self.document.path
        while key_path and (key_path not in places or places[key_path].file != own):
            key_path = key_path[:-1]
        return places[key_path].key[0] if key_path in places else 1

    def problem(self, message: str, key_path: KeyPath) -> Problem:
        """Return a problem with an entry of the case, in the file that holds it."""
        if self.document is None:
            return Problem(str(self.path), 1, 1, dotted(key_path), message)
        return self.document.problem(key_path, message)


def load_cases(path: Path, names: Names | None = None) -> list[Case]:
    """Return the cases in a file: one, or one for every combination of its `matrix`.

    UsageError if the file cannot be read, CaseFileError with every fault of its content and of what it includes; with
    `names`, models and engines that nobody knows are among them.
    """
    document, unread = with_includes(load_document(path))
    cases: list[Case] = []
    problems: list[Problem] = list(unread)
    beside: list[dict[Problem, Problem]] = []
    for variant, varied in expanded(document):
        data, lines = with_pairs(varied)
        problems += lines
        try:
            written = _sharing(validate(_CASE, data, incomplete=bool(unread)), cases)
            refusals = beside_the_point(written)
            cases.append(_case(narrowed(written, refusals), data, path, variant))
            beside.append(_located(data, refusals))
        except CaseFileError as error:
            problems += error.problems
        problems += islice(unknown_names(data, names), MAX_PROBLEMS) if names else ()
        if len(problems) >= MAX_PROBLEMS:
            break
    problems += _in_all(beside)
    if problems:
        raise CaseFileError(set(problems))
    return cases


def _sharing(written: CaseFile, earlier: list[Case]) -> CaseFile:
    """Return a variant that has the very fields of the one before it where they are equal: prompts may be long."""
    before = dict(earlier[-1]) if earlier else {}
    return written.model_copy(update={key: own for key, own in before.items() if getattr(written, key, None) == own})


def _located(document: Document, refusals: Iterable[Refusal]) -> dict[Problem, Problem]:
    """Return the problems by where they are: what is said of them differs between variants."""
    problems = (document.problem(each.path, each.message, at_key=each.at_key) for each in refusals)
    return {replace(problem, message=""): problem for problem in problems}


def _in_all(variants: list[dict[Problem, Problem]]) -> list[Problem]:
    """Return the problems that every variant has: what one of them runs may be spoken of."""
    first = variants[0] if variants else {}
    return [problem for where, problem in first.items() if all(where in each for each in variants)]


def load_case(path: Path) -> Case:
    """Return the one case in a file. Raises what `load_cases` does, and UsageError if it makes several."""
    cases = load_cases(path)
    if len(cases) > 1:
        raise UsageError(f"{path}: its matrix makes {number_of(len(cases), 'case')}; one is needed here")
    return cases[0]


def _case(written: CaseFile, document: Document, path: Path, variant: str) -> Case:
    case = Case.of(written, path, document, variant)
    if len(case.id) > MAX_ID:
        message = (
            f"makes the id {shown(case.id)} of {number_of(len(case.id), 'character')}; at most {MAX_ID} are allowed"
        )
        raise CaseFileError([document.problem(("matrix",), message, at_key=True)])
    return case


def _id_from_name(path: Path) -> str:
    stem = path.name.removesuffix(SUFFIX)
    # Python's $ also matches before a line end, which a file name may hold.
    if not re.fullmatch(SLUG.removesuffix("$"), stem):
        message = f"is missing, and the file's name gives none: expected {PATTERN_WORDS[SLUG]}, found {shown(stem)}"
        raise CaseFileError([Problem(str(path), 1, 1, "id", message)])
    return stem
