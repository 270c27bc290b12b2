"""Which case files are meant by the paths that are given, or by none.

`bundled` is the name of the cases that come with the package, and `bundled:ladder` that of one of them.

A shell completes these names: the reader of case files is imported only where one is looked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from harness.support.configuration import BUNDLED, is_bundled, load
from harness.vocabulary.errors import NothingToRun, UnknownName, UsageError

INSTALLED = Path(__file__).parents[1] / "bundled" / "cases"


def case_files(paths: Sequence[Path]) -> list[Path]:
    """Return the case files meant: those given, else those of ./cases, else the bundled ones.

    Raises UsageError for a path without a case, UnknownName for no bundled case, and NothingToRun where nothing is
    given, there is no ./cases, and somebody's own cases must be meant: in CI, or inside a project.
    """
    from harness.casefile import find_cases

    return find_cases([_place(path) for path in paths] or [_default()])


def bundled_by_default(paths: Sequence[Path]) -> bool:
    """Return whether these paths mean the bundled cases because nothing is given and nobody's own can be meant."""
    return not paths and not has_own_cases() and not _around()


def has_own_cases() -> bool:
    """Return whether there is a ./cases, whatever it is."""
    return os.path.lexists("cases")


def named_files(paths: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Return the paths that name one case file each, and the file."""
    return [(path, file) for path in paths if not (file := _place(path)).is_dir()]


def _place(path: Path) -> Path:
    from harness.casefile import SUFFIX, find_cases

    if not is_bundled(str(path)):
        return path
    if os.path.lexists(path):
        raise UsageError(f"{path} means the bundled cases, and is here as well; for the latter give its whole path")
    name = str(path).partition(":")[2]
    files = {file.name.removesuffix(SUFFIX): file for file in find_cases([bundled_cases()])}
    if name and name not in files:
        raise UnknownName("bundled case", name, files)
    return files[name] if name else bundled_cases()


def _default() -> Path:
    if has_own_cases():
        return Path("cases")
    if around := _around():
        message = (
            f"there is no folder ./cases here, and {around}; name your cases, or `{BUNDLED}` for those of the harness"
        )
        raise NothingToRun(message)
    return bundled_cases()


def _around() -> str | None:
    """Return what says that this is no place to try the harness out: CI, or a project whose own cases must be meant."""
    here = Path.cwd()
    if os.environ.get("CI"):
        return "CI is set"
    if file := load(here).file:
        return f"{file} configures the harness"
    return next((f"{each} is a repository" for each in (here, *here.parents) if (each / ".git").exists()), None)


def bundled_cases() -> Path:
    """Return the folder of the bundled cases."""
    if INSTALLED.is_dir():
        return INSTALLED
    return Path(__file__).parents[2] / "cases"  # an editable install runs from the checkout


def refuse_installed(paths: Sequence[Path]) -> None:
    """Raise UsageError for the bundled cases of an installed package: the next version would lose a change there."""
    if INSTALLED.is_dir() and any(INSTALLED.resolve() in file.resolve().parents for file in case_files(paths)):
        raise UsageError("the bundled cases belong to the installed package; copy them and give the copy's folder")
