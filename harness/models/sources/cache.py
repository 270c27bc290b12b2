"""The user's cache: folders that are built once, appear whole or not at all, and are shared by every process.

A folder is built beside its place under a file lock and moved into it by one rename. Whoever asks meanwhile waits for
the lock and finds it done; what a killed process left behind is swept away by the next one that builds. A folder that
lacks one of its files counts as absent, so damage repairs itself.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from harness.vocabulary.errors import UsageError

VARIABLE = "HARNESS_CACHE"


def root() -> Path:
    """Return the cache folder: `$HARNESS_CACHE`, or the platform's own place; it need not exist."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else user_cache_path("mlx-patch-harness")


def holds(folder: Path, files: Iterable[str]) -> bool:
    """Return whether every one of `files` is in `folder`."""
    return all((folder / name).is_file() for name in files)


def build_once(name: str, files: Iterable[str], build: Callable[[Path], None]) -> Path:
    """Return the cache's folder `name`, calling `build(empty_folder)` first if it is not complete.

    `build` must write every one of `files`. If it raises, the error passes through and nothing is left. Raises
    UsageError when the cache cannot be written.
    """
    wanted, place = tuple(files), root() / name
    if holds(place, wanted):
        return place
    _make_root()
    with FileLock(root() / f"{name}.lock"):
        if not holds(place, wanted):
            _build(place, build)
    return place


def _make_root() -> None:
    try:
        root().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{root()} cannot be used as the cache: {error.strerror}; set {VARIABLE} to a folder you can write"
        ) from error


def _build(place: Path, build: Callable[[Path], None]) -> None:
    partial = place.with_name(f"{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        build(partial)
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
