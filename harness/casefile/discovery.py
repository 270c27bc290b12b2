"""Finding case files: named directly, or below a folder. An empty selection is an error, never a silent success."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.casefile.case import SUFFIX
from harness.casefile.syntax.yamlfile import nearest_path
from harness.vocabulary.errors import UsageError

MOST_FOLDERS = 10_000
"""Folders that are looked into below one: a link to the root of a disk would be walked for hours."""

_ALMOST = re.compile(r"\.case\.ya?ml$", re.IGNORECASE)


def find_cases(paths: Iterable[Path]) -> list[Path]:
    """Return the case files among and below `paths`, sorted, each once; nothing for no paths.

    Hidden files and folders below a folder are skipped. Links to folders are followed, into each folder once, so a loop
    of links ends. UsageError for a path that does not exist, a file not named *.case.yaml, also below a folder where it
    is named almost so, and a folder without cases.
    """
    found = {os.path.abspath(case): case for path in paths for case in _cases_at(path)}
    return sorted(found.values())


def refuse_misnamed(file: Path) -> None:
    """Raise UsageError for a file that is not named as case files are: x.case.yml, X.CASE.YAML."""
    if not file.name.endswith(SUFFIX):
        rename = "; rename it, or it is never run" if _ALMOST.search(file.name) else ""
        raise UsageError(f"{file}: is not a case file; its name must end in {SUFFIX}{rename}")


def _cases_at(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            return _cases_below(path)
        exists = os.path.lexists(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not exists:
        raise UsageError(f"{path}: does not exist{nearest_path(path)}")
    refuse_misnamed(path)
    return [path]


def _cases_below(folder: Path) -> list[Path]:
    cases = []
    for file in _walk(folder):
        if _ALMOST.search(file.name):
            refuse_misnamed(file)
            cases.append(file)
    if not cases:
        raise UsageError(f"{folder}: no file below this folder is named *{SUFFIX}")
    return cases


def _walk(top: Path) -> Iterator[Path]:
    """Yield every file below a folder that is not hidden, each folder once however many links lead to it."""
    seen: set[str] = set()
    waiting = [str(top)]
    while waiting:
        links: list[str] = []
        for root, folders, files in os.walk(waiting.pop(0), onerror=_raise):
            real = os.path.realpath(root)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            if len(seen) > MOST_FOLDERS:
                raise UsageError(f"{top}: more than {MOST_FOLDERS:,} folders are below this one; name those with cases")
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            links += [path for name in folders if os.path.islink(path := os.path.join(root, name))]
            yield from (Path(root, name) for name in files if not name.startswith("."))
        # A folder is known by its own name first, and by that of a link only where no other leads to it.
        waiting += links


def _raise(error: OSError) -> None:
    # os.walk leaves out a folder that it cannot list; cases would go missing without a word.
    raise error
