"""What a writer that is killed, a full disk, and two runs at once leave of a snapshot: the old one or the new one."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from project import Project, environment

UPDATE = "--snapshot-update"

# In the process under test, from its first touch of the folder snapshots/ on. An audit hook sees every step that the
# interpreter takes with a file, whichever functions are used.
HOOK = """\
import os, resource, signal, sys

touches = 0

def touched(event, arguments):
    global touches
    if event in ("open", "os.rename", "os.chmod", "os.mkdir", "os.remove") and "snapshots/good" in str(arguments[0]):
        touches += 1
        {deed}

sys.addaudithook(touched)
"""
KILL_AT = """if touches == int(os.environ["KILL_AT"]): os.kill(os.getpid(), signal.SIGKILL)"""
# The kernel ends the process inside the write that passes the limit; no handler and no clean-up of ours runs.
DIE_IN_WRITE = """\
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))"""
# As it is by default, the write fails with EFBIG instead: a quota that is reached.
QUOTA = DIE_IN_WRITE.replace("SIG_DFL", "SIG_IGN")


@pytest.fixture
def moved(project: Project) -> Project:
    """A project whose stored snapshot is 3 points off, so that an update has something to write."""
    project.case("good")
    assert project.run_inside(UPDATE).code == 0
    text = project.snapshot().read_text(encoding="utf-8")
    project.snapshot().write_text(text.replace('"value": 50.0', '"value": 53.0'), encoding="utf-8")
    return project


def update(project: Project, deed: str, **env: str) -> int:
    project.write("sitecustomize.py", HOOK.format(deed=deed))
    command = project.command("run", UPDATE)
    variables = environment(PYTHONPATH=str(project.folder), PYTHONDONTWRITEBYTECODE="1", **env)
    return subprocess.run(command, cwd=project.folder, env=variables, capture_output=True).returncode


def texts(project: Project) -> tuple[str, str]:
    """The stored snapshot before and after an update."""
    old = project.snapshot().read_text(encoding="utf-8")
    return old, old.replace('"value": 53.0', '"value": 50.0')


def test_a_run_that_dies_inside_the_write_leaves_the_old_snapshot(moved: Project) -> None:
    old, new = texts(moved)
    assert update(moved, DIE_IN_WRITE) == -signal.SIGXFSZ
    assert [file.stat().st_size for file in moved.snapshot().parent.iterdir() if file != moved.snapshot()] == [512]
    assert moved.snapshot().read_text(encoding="utf-8") == old
    assert moved.run_inside(UPDATE).code == 0
    assert moved.snapshot().read_text(encoding="utf-8") == new


@pytest.mark.slow
def test_a_run_killed_at_any_step_leaves_the_old_snapshot_or_the_new_one(moved: Project) -> None:
    old, new = texts(moved)
    left = []
    for step in range(1, 50):
        moved.snapshot().write_text(old, encoding="utf-8")
        code = update(moved, KILL_AT, KILL_AT=str(step))
        left.append(moved.snapshot().read_text(encoding="utf-8"))
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert len(left) > 3
    assert set(left) == {old, new}
    assert left[-1] == new


@pytest.fixture
def small_disk(project: Project) -> Iterator[Path]:
    """A file system of 64 KiB at snapshots/."""
    folder = project.folder / "snapshots"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file:
        for size in (4096, 1):
            with suppress(OSError):
                while True:
                    file.write(b"\0" * size)


@pytest.mark.parametrize("door", ["run", "pytest"])
def test_a_full_disk_leaves_the_old_snapshot_and_says_so(small_disk: Path, moved: Project, door: str) -> None:
    old, new = texts(moved)
    fill(small_disk)
    got = moved.through(door, UPDATE)
    assert (got.code, got.codes) == (1, {"SNP005"})
    assert "No space left on device" in " ".join(got.out.split())
    assert moved.snapshot().read_text(encoding="utf-8") == old
    assert [file.name for file in moved.snapshot().parent.iterdir()] == [moved.snapshot().name]
    (small_disk / "filler").unlink()
    assert moved.through(door, UPDATE).code == 0
    assert moved.snapshot().read_text(encoding="utf-8") == new


def test_a_full_disk_stores_no_part_of_a_new_snapshot(small_disk: Path, project: Project) -> None:
    project.case("good")
    fill(small_disk)
    got = project.run_inside(UPDATE)
    assert (got.code, got.codes) == (1, {"SNP005"})
    assert not project.snapshot().exists()


def test_a_reached_quota_leaves_the_old_snapshot(moved: Project) -> None:
    old, _ = texts(moved)
    assert update(moved, QUOTA) not in (0, -signal.SIGXFSZ)
    assert moved.snapshot().read_text(encoding="utf-8") == old
    assert [file.name for file in moved.snapshot().parent.iterdir()] == [moved.snapshot().name]


def test_a_full_results_folder_costs_the_candidate_and_not_the_verdict(small_disk: Path, project: Project) -> None:
    project.case("good")
    fill(small_disk)
    got = project.run_inside("--results", small_disk / "results")
    assert (got.code, got.codes) == (0, {"SNP002"})
    assert "--failed will not know this run" in got.err


def test_two_updates_at_once_and_a_reader_that_never_meets_half_a_file(project: Project) -> None:
    for name in ("a", "b", "c"):
        project.case(name, models="good, other", engines="native, published")
    assert project.run_inside(UPDATE).code == 0
    files = [project.folder / name for name in project.snapshots]
    right = {file: file.read_text(encoding="utf-8") for file in files}
    for file in files:
        file.write_text(right[file].replace('"value": 50.0', '"value": 53.0'), encoding="utf-8")
    command = [part for part in project.command("run", UPDATE) if not part.endswith("result.json") and part != "--json"]
    start = {"cwd": project.folder, "env": environment(), "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    runs = [subprocess.Popen(command, **start) for _ in range(2)]
    reads = 0
    while any(run.poll() is None for run in runs):
        reads += len([json.loads(file.read_text(encoding="utf-8")) for file in files])
    assert [run.wait() for run in runs] == [0, 0]
    assert reads > len(files)
    assert {file: file.read_text(encoding="utf-8") for file in files} == right
    assert len(project.snapshots) == len(files) == 12
