"""The layers of the package: the contracts hold, and each catches an import that breaks it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the package and its contracts."""
    shutil.copytree(ROOT / "harness", tmp_path / "harness", ignore=shutil.ignore_patterns("__pycache__", "bundled"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def lint(folder: Path) -> tuple[int, str]:
    # The copy must win over the installed package.
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as c; c()"
    done = subprocess.run([sys.executable, "-c", code, "--no-cache"], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_the_contracts_hold(checkout: Path) -> None:
    code, shown = lint(checkout)
    assert code == 0, shown
    assert "0 broken" in shown


def test_a_new_module_must_be_given_a_layer(checkout: Path) -> None:
    (checkout / "harness" / "newcomer.py").write_text("")
    code, shown = lint(checkout)
    assert code == 1
    assert "newcomer" in shown


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("vocabulary/readings.py", "import harness.support.files", "The layers"),
        ("casefile/case.py", "import harness.models", "The layers"),
        ("patching/stepwise.py", "from harness.engines import ENGINES", "The layers"),
        ("metrics/host.py", "import harness.intercept", "The layers"),
        ("cli/list_command.py", "import harness.pytest_plugin", "The layers"),
        ("results/json.py", "import mlx.core", "A result can be read"),
        ("casefile/case.py", "import mlx_lm", "A result can be read"),
        ("engines/legacy.py", "import mlx_lm", "Only models imports mlx_lm"),
    ],
)
def test_a_planted_violation_is_caught(checkout: Path, module: str, line: str, broken: str) -> None:
    with (checkout / "harness" / module).open("a") as file:
        file.write(f"\n{line}\n")
    code, shown = lint(checkout)
    assert code == 1, shown
    assert any(broken in row and "BROKEN" in row for row in shown.splitlines()), shown
