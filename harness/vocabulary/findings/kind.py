"""What a finding code means, whoever raises it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """An error fails the job; a warning fails it only under `--strict`; a note never does."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


ERROR, WARNING, NOTE = Severity


@dataclass(frozen=True)
class FindingKind:
    """A row of the table: the code, the check that raises it, how bad it is, what it says, and what to do."""

    code: str
    check: str
    severity: Severity
    title: str
    hint: str
