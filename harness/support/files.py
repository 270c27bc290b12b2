"""Writing files so that a reader, a crash or a full disk never meets half of one."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path


def is_below(path: Path, folder: Path) -> bool:
    """Return whether a path, its links followed, is a folder or lies somewhere in it."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def write_text(path: Path, text: str, within: Path | None = None) -> None:
    """Replace a file in one step, by way of a temporary file beside it. Raises OSError and leaves the old one.

    A link is followed and stays; a pipe or a device is written through. A link out of the folder `within` is refused:
    a path that nobody typed may be a stranger's link to anywhere.
    """
    if within is not None and not is_below(path, within):
        raise PermissionError(errno.EPERM, f"it leads to {os.path.realpath(path)}, outside of {within}", str(path))
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8") as file:
            file.write(text)
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def make_results_folder(folder: Path) -> None:
    """Create the folder for what runs leave behind, kept out of version control. Raises OSError."""
    if not folder.exists():
        write_text(folder / ".gitignore", "*\n")


def _umask() -> int:
    # The mask can only be read by setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
