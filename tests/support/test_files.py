"""A file holds the old text or the new one, whatever happens while it is written."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from harness.support import files
from harness.support.files import write_text

OLD, NEW = "old\n" * 50_000, "new\n" * 50_000


def test_it_writes_folders_and_text(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b.json"
    write_text(file, "é²\n")
    assert file.read_bytes() == "é²\n".encode()
    assert list(file.parent.iterdir()) == [file]


def test_the_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_text("")
    write_text(tmp_path / "ours", "")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ordinary", "ours")}
    assert len(modes) == 1


HUGE_OLD, HUGE_NEW = "old\n" * 4_000_000, "newer\n" * 4_000_000
WRITES = """\
import sys
from pathlib import Path
from harness.support.files import write_text
write_text(Path(sys.argv[1]), "newer\\n" * 4_000_000)
"""


def test_a_writer_killed_in_the_middle_of_a_write_leaves_the_old_text(tmp_path: Path) -> None:
    """The kill comes while some file here is longer than nothing and shorter than the text: in the middle, seen."""
    file = tmp_path / "file"
    write_text(file, HUGE_OLD)
    child = subprocess.Popen([sys.executable, "-c", WRITES, str(file)])
    while not any(0 < size < len(HUGE_NEW) and size != len(HUGE_OLD) for size in _sizes(tmp_path)):
        assert child.poll() is None, "the writer was done before it was seen writing"
    child.kill()
    assert child.wait() == -signal.SIGKILL
    assert file.read_text() == HUGE_OLD
    write_text(file, HUGE_NEW)
    assert file.read_text() == HUGE_NEW


def _sizes(folder: Path) -> list[int]:
    return [entry.stat().st_size for entry in os.scandir(folder)]


def test_a_full_disk_keeps_the_old_text_and_no_leftovers(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_text(file, "old\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_text(file, NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert file.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
def test_a_failing_step_keeps_the_old_text_and_no_leftovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    file = tmp_path / "file"
    write_text(file, "old\n")
    monkeypatch.setattr(files.os, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(file, "new\n")
    monkeypatch.undo()
    assert file.read_text() == "old\n"
    assert os.listdir(tmp_path) == ["file"]
