"""Processes of our own are started in one place, with a safe path; what an engine starts is the user's affair."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.support.interpreter import leave_to_user, python, safe_children, without_working_directory

STARTS = re.compile(r"\[\s*sys\.executable|os\.(exec|spawn|system|popen|fork)|import_module\(\"multiprocessing|Popen\(")
READ = ("-c", "import json; print(json.dumps(2))")


def test_no_other_module_starts_an_interpreter() -> None:
    root = Path(harness.__file__).parent
    found = [file.relative_to(root) for file in root.rglob("*.py") if STARTS.search(file.read_text())]
    assert found == [Path("support/interpreter.py")]


@pytest.mark.parametrize("how", ["ours", "somebody else's", "unsafe"])
def test_a_module_of_the_working_directory_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    Path("json.py").write_text("raise SystemExit('planted')")
    if how == "ours":
        done = subprocess.run(python(*READ), capture_output=True, text=True)
    elif how == "unsafe":
        done = subprocess.run([sys.executable, *READ], capture_output=True, text=True)
    else:
        with safe_children():
            done = subprocess.run([sys.executable, *READ], capture_output=True, text=True)
    assert (done.stdout, "planted" in done.stderr) == (("", True) if how == "unsafe" else ("2\n", False))
    assert "PYTHONSAFEPATH" not in os.environ


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "yes")
    with safe_children():
        leave_to_user()
    assert os.environ["PYTHONSAFEPATH"] == "yes"


def test_the_entry_of_python_dash_m_goes_unless_the_package_came_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.flags.safe_path:
        pytest.skip("this interpreter has a safe path already")
    monkeypatch.setattr(sys, "path", ["/here", "/installed"])
    without_working_directory("/here/harness")
    assert sys.path == ["/here", "/installed"]
    without_working_directory("/installed/harness")
    assert sys.path == ["/installed"]
