"""What a user names is read where it is a regular file of a stated size at most; a pipe or a device holds nobody up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from project import Project, project

from harness.support.inputs import UnreadableInput, read_input

__all__ = ["project"]

NO_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (lambda file: None, "does not exist"),
    "folder": (lambda file: file.mkdir(), "is a folder; a file is needed here"),
    "pipe": (os.mkfifo, "is not a regular file"),
    "device": (lambda file: file.symlink_to("/dev/zero"), "is not a regular file"),
    "loop": (lambda file: file.symlink_to(file), "does not exist"),
    "large": (lambda file: file.write_bytes(b"x" * 11), "larger than 10 bytes"),
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_readable_file_is_refused(tmp_path: Path, kind: str) -> None:
    make, said = NO_FILES[kind]
    make(tmp_path / "it")
    with pytest.raises(UnreadableInput) as caught:
        read_input(tmp_path / "it", 10)
    assert str(caught.value) == f"{tmp_path / 'it'}: {said}"


def test_a_zero_byte_in_a_name_is_no_readable_file() -> None:
    with pytest.raises(UnreadableInput, match=r"cannot be read: (stat: )?embedded null"):
        read_input(Path("a\0b"))


def test_a_file_or_a_link_to_one_is_read(tmp_path: Path) -> None:
    (tmp_path / "it").write_bytes(b"x" * 10)
    (tmp_path / "link").symlink_to("it")
    assert read_input(tmp_path / "link", 10) == b"x" * 10


COMMANDS = (
    "compare it.json base.json", "report it.json -o out.md", "merge it.json -o out.json",
    "replay it.json", "replay it.replay.yaml", "run --failed-in it.json", "list --models it.yaml", "run it.case.yaml",
    "validate it.case.yaml", "diagnose --logits it.npy base.npy", "diagnose --logits base.npy it.npz",
    "diagnose --logits it.safetensors base.npy",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_waits_on_a_pipe_or_reads_a_device(project: Project, command: str, kind: str) -> None:
    project.write("base.json", "{}")
    np.save(project.folder / "base.npy", np.ones(8, np.float32))
    (name,) = (word for word in command.split() if word.startswith("it."))
    NO_FILES[kind][0](project.folder / name)
    got = project.inside(*command.split())
    assert got.code == 4, got.err
    assert name in got.err


LOCKED = (
    "list locked", "validate locked/x.case.yaml", "list --models locked/m.yaml", "models list --models there.yaml",
    "run --models there.yaml", "run --json locked/r.json", "run -o locked/r.md", "compare locked/a.json locked/b.json",
    "patch -m locked/model --ids --clean 1 --corrupted 2", "diagnose --model locked --clean-ids 1 --corrupted-ids 2",
    "snapshots status cases", "run cases", "show good --models m.yaml",
)  # fmt: skip


@pytest.mark.on_cpu("a job has a process of its own, in which the system answers as ever")
@pytest.mark.parametrize("command", LOCKED)
def test_a_folder_that_may_not_be_looked_into_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """As root every folder may be: the system's own answer is put in its place."""
    project.write("there.yaml", "models:\n  - {id: there, source: path, path: locked/model}\n")
    if "there" in command:
        project.write("cases/there.case.yaml", "models: [there]\nprompts: {clean: [0], corrupted: [1]}\n")
    else:
        project.case("good", models="dial-tiny-f32" if "m.yaml" not in command else "good")
    locked = (
        ("locked", "snapshots") if command.split()[0] in ("snapshots", "show") or "cases" in command else ("locked",)
    )
    stat = os.stat

    def refusing(path: Any, *args: Any, **named: Any) -> os.stat_result:
        if not isinstance(path, int) and any(name in Path(os.fsdecode(path)).parts for name in locked):
            raise PermissionError(13, "Permission denied", path)
        return stat(path, *args, **named)

    monkeypatch.setattr(os, "stat", refusing)
    got = project.inside(*command.split())
    said = got.out + got.err
    assert got.code == 4, said
    assert "Permission denied" in said
    assert any(name in said for name in locked)
    assert "internal error" not in said
