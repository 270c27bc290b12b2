"""The layers of the package: the contracts hold, and each catches an import that breaks it."""

from __future__ import annotations

import configparser
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


TYPING_ONLY = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import harness.support.files"

PLANTED = [
    # Module (a new one where there is none), the lines at its end, the contract that they break.
    ("vocabulary/readings.py", "import harness.support.files", "The layers"),
    ("vocabulary/readings.py", TYPING_ONLY, "The layers"),
    ("casefile/case.py", "import harness.models", "The layers"),
    ("patching/stepwise.py", "from harness.engines import ENGINES", "The layers"),
    ("metrics/host.py", "import harness.intercept", "The layers"),
    ("cli/list_command.py", "import harness.pytest_plugin", "The layers"),
    ("results/json.py", "import mlx.core", "A result can be read"),
    ("casefile/case.py", "import mlx_lm", "A result can be read"),
    ("engines/legacy.py", "import mlx_lm", "Only models imports mlx_lm"),
    ("engines/newcomer.py", "def f():\n    import mlx_lm.utils", "Only models imports mlx_lm"),
    ("engines/legacy.py", "def f():\n    import torch.nn", "Only the engine transformers"),
    ("metrics/distances.py", "import click", "Only cli imports click"),
    ("jobs/run.py", "import pytest", "Only the plugin and snapshots"),
    ("results/json.py", "import syrupy.data", "Only the plugin and snapshots"),
    ("checks/oracle.py", "import harness.checks.finiteness", "A check imports no other"),
    ("checks/newcomer.py", "import harness.checks.oracle", "A check imports no other"),
    ("checks/evidence.py", "from harness.checks import oracle", "A check imports no other"),
    ("engines/published.py", "import harness.engines.legacy", "An engine imports no other"),
    ("metrics/distributions.py", "from harness.metrics.distances import norm", "A kind of metric imports no other"),
    ("models/sources/hub.py", "import harness.models.sources.groundtruth.dial", "A source of models imports no other"),
    ("results/reports/html/page.py", "import harness.results.reports.terminal", "A report's format imports no other"),
]


@pytest.mark.parametrize(
    ("module", "lines", "broken"), PLANTED, ids=[f"{module} {lines.split()[-1]}" for module, lines, _ in PLANTED]
)
def test_a_planted_violation_is_caught(checkout: Path, module: str, lines: str, broken: str) -> None:
    with (checkout / "harness" / module).open("a") as file:
        file.write(f"\n{lines}\n")
    code, shown = lint(checkout)
    assert code == 1, shown
    assert [row for row in shown.splitlines() if row.startswith(broken) and " BROKEN" in row], shown


def test_every_contract_has_a_planted_violation() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    names = [contracts[section]["name"] for section in contracts.sections() if "contract" in section]
    planted = {broken for _, _, broken in PLANTED}
    assert len(names) == len(planted)
    assert all(any(name.startswith(broken) for broken in planted) for name in names)
