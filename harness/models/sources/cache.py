"""The user's cache: folders that are built once, appear whole or not at all, and are shared by every process.

A folder is built beside its place under a file lock and moved into it by one rename. Whoever asks meanwhile waits for
the lock and finds it done; what a killed process left behind is swept away by the next one that builds. The hashes of
its files are stored with it (`sha256sum -c SHA256SUMS` checks them too). A folder that lacks a file or holds another
content counts as absent, so damage repairs itself.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from harness.vocabulary.errors import UsageError

VARIABLE = "HARNESS_CACHE"
SUMS = "SHA256SUMS"


def root() -> Path:
    """Return the cache folder: `$HARNESS_CACHE`, or the platform's own place; it need not exist."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else user_cache_path("mlx-patch-harness")


def fault(folder: Path, files: Iterable[str]) -> str | None:
    """Return what keeps a folder from holding `files` as they were stored: `not there`, `damaged: FILE`; or None."""
    if not folder.is_dir():
        return "not there"
    sums = _stored_sums(folder)
    bad = next((name for name in files if name not in sums or _sum(folder / name) != sums[name]), None)
    return None if bad is None else f"damaged: {bad}"


def is_there(folder: Path, files: Iterable[str]) -> bool:
    """Return whether a folder holds `files`, whatever is in them: for whoever reads about a model and not its weights.

    A folder appears whole, so that only damage done afterwards is not seen here.
    """
    sums = _stored_sums(folder)
    return all(name in sums and (folder / name).is_file() for name in files)


def _seal(folder: Path) -> None:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    lines = [f"{_sum(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _stored_sums(folder: Path) -> dict[str, str]:
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    return {name: stored for stored, _, name in (line.partition("  ") for line in lines)}


def _sum(file: Path) -> str | None:
    try:
        status = file.stat()
        return _sum_of(file, status.st_size, status.st_mtime_ns, status.st_ino)
    except OSError:
        return None


@cache
def _sum_of(file: Path, size: int, written: int, inode: int) -> str:
    # Once a process: 350 MB take 0.3 s.
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def build_once(name: str, files: Iterable[str], build: Callable[[Path], None]) -> Path:
    """Return the cache's folder `name`, calling `build(empty_folder)` first if it is not complete.

    `build` must write every one of `files`. If it raises, the error passes through and nothing is left. Raises
    UsageError when the cache cannot be written.
    """
    wanted, place = tuple(files), root() / name
    if fault(place, wanted) is None:
        return place
    _make_root()
    with FileLock(root() / f"{name}.lock"):
        if fault(place, wanted):
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
        _seal(partial)
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
