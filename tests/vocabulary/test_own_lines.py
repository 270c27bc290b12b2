"""`described_at`: where in somebody's own code an exception was raised."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.support.user_code import contained
from harness.vocabulary.errors import described, described_at, traceback_of

OWN = """\
import functools
import json
import mlx.core as mx
import numpy as np
import mlx.nn as nn

def plain(): raise ValueError("planted")
def in_mlx(): mx.matmul(mx.zeros((2, 2)), mx.zeros((7, 3)))
def in_mlx_python(): nn.Linear(2, 3)(mx.zeros((2, 7)))
def in_numpy(): np.linalg.inv(np.zeros((2, 3)))
def in_the_library(): json.loads("{")
def in_a_partial(): functools.reduce(lambda a, b: a / 0, [1, 2])
def leaves(): raise SystemExit(3)
def nested():
    try:
        plain()
    except ValueError as error:
        raise RuntimeError("outer") from error
def compiled(): exec("raise ValueError('planted')")
"""
LINES = {
    "plain": 7, "in_mlx": 8, "in_mlx_python": 9, "in_numpy": 10, "in_the_library": 11, "in_a_partial": 12, "leaves": 13,
    "nested": 18, "compiled": 19,
}  # fmt: skip


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "lib"
    folder.mkdir()
    (folder / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(OWN, str(folder / "own.py"), "exec"), names)
    return names


def raised(function) -> BaseException:
    try:
        contained(function)()
    except Exception as error:  # noqa: BLE001  any will do
        return error.with_traceback(error.__traceback__.tb_next)  # the frame of this test is somebody's own as well
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("name", LINES)
def test_the_last_own_line_is_said_relative_to_here(own, name: str) -> None:
    error = raised(own[name])
    assert described_at(error) == f"{described(error)} (lib/own.py:{LINES[name]})"
    assert f'own.py", line {LINES[name]}' in traceback_of(error)


def test_elsewhere_the_whole_path_is_said(own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert f"({tmp_path}/lib/own.py:7)" in described_at(raised(own["plain"]))


def test_what_the_harness_or_mlx_raises_has_no_own_line() -> None:
    from harness.engines import engine_named

    assert "test_own_lines.py" in described_at(raised(lambda: engine_named("nativ")))  # the lambda is ours
    error = raised(functools.partial(engine_named, "nativ"))
    assert described_at(error) == described(error)


@pytest.mark.parametrize("package", ["site-packages/mlxterp/core", "dist-packages/mine"])
def test_an_installed_engine_has_its_own_line_too(tmp_path: Path, package: str) -> None:
    file = tmp_path / f"{package}.py"
    names: dict[str, object] = {}
    exec(compile("def f():\n    raise ValueError('x')\n", str(file), "exec"), names)
    assert described_at(raised(names["f"])) == f"ValueError: x ({package.split('/', 1)[1]}.py:2)"


def test_every_command_says_the_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        'def patch(model, clean, corrupted, component, layers, metric):\n    print("before")\n    return 1 / 0\n'
        'patch.harness = {"units": "percent", "metrics": ["l2"], "components": ["mlp"]}\n'
    )
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases/a.case.yaml").write_text(
        'models: [llama-2k-f32]\nengines: ["mine:patch"]\nprompts: {clean: [1, 2], corrupted: [1, 3]}\n'
        "sweep: {components: [mlp]}\nmetrics: [l2]\n"
    )
    given = ["-e", "mine:patch", "--allow-code"]
    prompts = ["-m", "llama-2k-f32", "-c", "mlp"]
    reports = ["--json", "r.json", "--junit", "r.xml", "-o", "r.html", "-v"]
    for words, code in (
        (["run", "--allow-code", *reports], 1),
        (["conformance", "--row", "llama", *given, "--json", "c.json", "--junit", "c.xml", "-o", "c.md", "-v"], 1),
        (["patch", *prompts, "--clean", "1,2", "--corrupted", "1,3", "--ids", *given, "-v"], 1),
        (["diagnose", *prompts, "--clean-ids", "1,2", "--corrupted-ids", "1,3", *given, "-v", "--json", "d.json"], 1),
    ):
        command = [sys.executable, "-m", "harness", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert "ZeroDivisionError: division by zero (mine.py:3)" in " ".join(said.split())
        assert "return 1 / 0" in said  # the whole traceback
        assert "printed before: before" in said
    for name in ("r.json", "r.xml", "r.html", "c.json", "c.xml", "c.md", "d.json"):
        assert "mine.py:3" in (tmp_path / name).read_text().replace("\\", ""), name
    assert json.loads((tmp_path / "c.json").read_text())["cells"][0]["traceback"]
