"""Case files as pytest items: pytest executes, xdist distributes, syrupy stores.

    collecting   a `*.case.yaml` file as a module with one parametrized function
    configuring  what `[tool.harness]` says, where the command line says nothing
    ledger       what a session knows: models in a worker, results and the verdict in the owner of the terminal

The package is loaded by every pytest that has the harness installed, so it imports nothing heavy at the top.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from harness.pytest_plugin.collecting import CaseModule
from harness.pytest_plugin.configuring import apply_configuration
from harness.pytest_plugin.items import CASE_SUFFIX, nodeid_of
from harness.pytest_plugin.ledger import LEDGER, SessionState


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("harness", "activation patching cases (mlx-patch-harness)")
    group.addoption("--harness-json", metavar="FILE", help="write the result of the case files as JSON")
    group.addoption(
        "--harness-models", action="append", default=[], metavar="FILE", help="a model table beside the bundled one"
    )
    group.addoption("--harness-download", action="store_true", help="fetch models that are not on this machine")
    group.addoption("--harness-require-models", action="store_true", help="a job skipped for want of its model fails")
    group.addoption(
        "--harness-allow-code", action="store_true", help="run engines and metrics that cases name as module:function"
    )
    group.addoption(
        "--harness-with-engine", action="append", default=[], metavar="NAME", help="ask this engine too, in every case"
    )
    group.addoption("--harness-device", choices=("cpu", "gpu"), help="compute on this device, not on MLX's own choice")
    group.addoption("--harness-strict", action="store_true", help="warnings fail a job")
    group.addoption("--harness-shard", metavar="I/N", help="only the I-th of N parts of the jobs; see `harness merge`")
    group.addoption("--harness-min-jobs", type=int, metavar="N", help="fail if fewer jobs ran")
    group.addoption(
        "--harness-results", default="results", metavar="DIR", help="where snapshot candidates go (default: results)"
    )
    group.addoption(
        "--harness-memory", metavar="SIZE", help="what a walk's rows may take, as in 2GB; over any case's own"
    )
    group.addoption("--harness-only", action="append", default=[], metavar="KIND=NAME", help=argparse.SUPPRESS)
    group.addoption("--harness-configured", action="store_true", help=argparse.SUPPRESS)


def pytest_configure(config: pytest.Config) -> None:
    apply_configuration(config)
    config.pluginmanager.register(SessionState(config), LEDGER)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> CaseModule | None:
    if file_path.name.endswith(CASE_SUFFIX):
        return CaseModule.from_parent(parent, path=file_path, nodeid=nodeid_of(file_path, parent.config.rootpath))
    return None
