"""A file holds the old text or the new one, whatever happens while it is written."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import files
from harness.files import write_text

OLD, NEW = "old\n" * 50_000, "new\n" * 50_000

ENDLESSLY = """\
import sys
from pathlib import Path
from harness.files import write_text
texts = ["old\\n" * 50_000, "new\\n" * 50_000]
print("ready", flush=True)
while True:
    for text in texts:
        write_text(Path(sys.argv[1]), text)
"""


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


def test_a_killed_writer_leaves_old_or_new(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_text(file, OLD)
    for attempt in range(5):
        child = subprocess.Popen([sys.executable, "-c", ENDLESSLY, str(file)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.01 + attempt * 0.007)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        assert file.read_text() in (OLD, NEW)


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
