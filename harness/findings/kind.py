"""What a finding code means, whoever raises it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """An error fails the job; a warning fails it only under `--strict`."""

    ERROR = "error"
    WARNING = "warning"


ERROR, WARNING = Severity.ERROR, Severity.WARNING


@dataclass(frozen=True)
class FindingKind:
    """A row of the table: the code, the check that raises it, how bad it is, what it says, and what to do."""

    code: str
    check: str
    severity: Severity
    title: str
    hint: str
