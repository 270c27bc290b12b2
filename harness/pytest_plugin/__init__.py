"""Case files as pytest items: pytest executes, xdist distributes, syrupy stores.

    configuring   what `[tool.harness]` says, where the command line says nothing
    collecting    a `*.case.yaml` file as a module with one parametrized function
    selecting     which jobs of a case file run, and which of them in this process
    running       a job, with the model that is in use
    gathering     the results, in the process that owns the terminal
    ending        the verdict over them, the exit code, the result file
    limiting      the end of a job that takes too long
    distributing  each model to one of xdist's workers

The package is loaded by every pytest that has the harness installed, so it imports nothing heavy at the top.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.pytest_plugin.collecting import RUNNING, SELECTING, CaseModule, PlannedFolder, mark_with_tags
from harness.pytest_plugin.configuring import apply_configuration, known_failures
from harness.pytest_plugin.distributing import ModelScheduling
from harness.pytest_plugin.ending import SessionEnding
from harness.pytest_plugin.gathering import ResultGathering
from harness.pytest_plugin.items import MEANT_AS_CASE
from harness.pytest_plugin.limiting import JobLimits
from harness.pytest_plugin.running import JobRunning
from harness.pytest_plugin.selecting import JobSelecting, from_harness_run, is_worker
from harness.support.interpreter import leave_to_user
from harness.vocabulary.dequantised import DEQUANTISE, NEVER


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
    group.addoption("--harness-known", metavar="FILE", help="failures known of an engine; strict: a mended one fails")
    group.addoption("--harness-write-known", metavar="FILE", help="write what fails as known failures here")
    group.addoption("--harness-device", choices=("cpu", "gpu"), help="compute on this device, not on MLX's own choice")
    group.addoption("--harness-strict", action="store_true", help="warnings about the engine or the case fail a job")
    group.addoption("--harness-prove", action="store_true", help="rely on no proof of a walk that is remembered")
    group.addoption(
        "--harness-dequantise", choices=DEQUANTISE, default=NEVER,
        help="auto: sweep a float32 copy of a quantised model where that pays, on a CPU (default: never)",
    )  # fmt: skip
    group.addoption("--harness-shard", metavar="I/N", help="only the I-th of N parts of the jobs; see `harness merge`")
    group.addoption("--harness-min-jobs", type=int, metavar="N", help="fail if fewer jobs ran")
    group.addoption(
        "--harness-results", default="results", metavar="DIR", help="where snapshot candidates go (default: results)"
    )
    group.addoption(
        "--harness-job-timeout", type=float, metavar="SECONDS", help="end a job that takes longer; needs xdist's -n"
    )
    group.addoption(
        "--harness-memory", metavar="SIZE", help="what a walk's rows may take, as in 2GB; over any case's own"
    )


def pytest_configure(config: pytest.Config) -> None:
    apply_configuration(config)
    if is_worker(config):
        leave_to_user()
    config.stash[SELECTING] = selecting = JobSelecting(config)
    limits = JobLimits(config, selecting)
    gathering = ResultGathering(config, selecting, limits)
    known = known_failures(config)
    config.stash[RUNNING] = running = JobRunning(config, selecting.selection, gathering, known)
    ending = SessionEnding(config, selecting, gathering, known)
    for part in (selecting, running, gathering, limits, ending, ModelScheduling(limits)):
        config.pluginmanager.register(part, f"harness-{type(part).__name__}")


@pytest.hookimpl(tryfirst=True)
def pytest_collect_directory(path: Path, parent: pytest.Collector) -> PlannedFolder | None:
    return PlannedFolder.from_parent(parent, path=path) if from_harness_run(parent.config) else None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> CaseModule | None:
    return CaseModule.of(file_path, parent) if MEANT_AS_CASE.search(file_path.name) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mark_with_tags(config, items)
