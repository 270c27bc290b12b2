"""What a finding code means, whoever raises it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """An error fails the job, whatever its subject; a warning may under `--strict` (`FindingKind.fails`); a note never
    does."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Subject(StrEnum):
    """What a finding is about, and so who can do something about it.

    Engine: somebody's patching or formula. Model: its weights and logits. Case: the prompts, answers and settings that
    were asked. Environment: this machine and what is installed or stored on it.
    """

    ENGINE = "engine"
    MODEL = "model"
    CASE = "case"
    ENVIRONMENT = "environment"


ERROR, WARNING, NOTE = Severity
ENGINE, MODEL, CASE, ENVIRONMENT = Subject

STRICT_ABOUT = (ENGINE, CASE)
"""The subjects whose warnings fail a job under `--strict`.

What a warning says of a model's logits or of a machine is true of every correct engine, and a release of an engine
must not turn red for it.
"""


@dataclass(frozen=True)
class FindingKind:
    """A row of the table: the code, the check that raises it, how bad it is, what it is about, what it says, and what
    to do."""

    code: str
    check: str
    severity: Severity
    subject: Subject
    title: str
    hint: str

    def fails(self, strict: bool = False) -> bool:
        """Return whether a finding of this kind fails its job, unless the case expects it."""
        return self.severity is ERROR or (strict and self.severity is WARNING and self.subject in STRICT_ABOUT)

    @property
    def weight(self) -> str:
        """What the kind means for a verdict, as its page says it."""
        article = "An" if self.severity is ERROR else "A"
        about = f"{article} {self.severity} about the {self.subject}"
        if self.fails():
            return f"{about}: it fails a job."
        if self.fails(strict=True):
            return f"{about}: it fails a job only under `--strict`."
        return f"{about}: it is listed and fails no job, `--strict` or not."
