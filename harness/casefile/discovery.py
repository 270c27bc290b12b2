"""Finding case files: named directly, or below a folder. An empty selection is an error, never a silent success."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.casefile.case import SUFFIX
from harness.casefile.syntax.yamlfile import nearest_path
from harness.vocabulary.errors import UsageError


def find_cases(paths: Iterable[Path]) -> list[Path]:
    """Return the case files among and below `paths`, sorted, each once; nothing for no paths.

    Hidden files and folders below a folder are skipped, and links to folders are not followed, so a loop of links
    ends. UsageError for a path that does not exist, a file not named *.case.yaml, and a folder without cases.
    """
    found = {os.path.abspath(case): case for path in paths for case in _cases_at(path)}
    return sorted(found.values())


def _cases_at(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            return _cases_below(path)
        exists = os.path.lexists(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not exists:
        raise UsageError(f"{path}: does not exist{nearest_path(path)}")
    if not path.name.endswith(SUFFIX):
        raise UsageError(f"{path}: is not a case file; its name must end in {SUFFIX}")
    return [path]


def _cases_below(folder: Path) -> list[Path]:
    cases = list(_walk(folder))
    if not cases:
        raise UsageError(f"{folder}: no file below this folder is named *{SUFFIX}")
    return cases


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(root, name) for name in files if name.endswith(SUFFIX) and not name.startswith("."))


def _raise(error: OSError) -> None:
    # os.walk leaves out a folder that it cannot list; cases would go missing without a word.
    raise error
