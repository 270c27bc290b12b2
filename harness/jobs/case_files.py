"""Which case files are meant by the paths that are given, or by none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.casefile import find_cases
from harness.vocabulary.errors import UsageError

BUNDLED = Path(__file__).parents[1] / "bundled" / "cases"


def case_files(paths: Sequence[Path]) -> list[Path]:
    """Return the case files meant: those given, else those of ./cases, else the bundled ones."""
    if paths:
        return find_cases(paths)
    here = Path("cases")
    return find_cases([here if here.is_dir() else bundled_cases()])


def bundled_cases() -> Path:
    """Return the folder of the bundled cases."""
    if BUNDLED.is_dir():
        return BUNDLED
    return Path(__file__).parents[2] / "cases"  # an editable install runs from the checkout


def refuse_installed(paths: Sequence[Path]) -> None:
    """Raise UsageError for the bundled cases of an installed package: the next version would lose a change there."""
    if BUNDLED.is_dir() and any(BUNDLED.resolve() in file.resolve().parents for file in case_files(paths)):
        raise UsageError("the bundled cases belong to the installed package; copy them and give the copy's folder")
