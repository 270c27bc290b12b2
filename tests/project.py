"""A folder with case files and a table of tiny models, and the two doors through which they are run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from harness.cli import exit_code_of
from harness.environment import facts
from harness.results.json import dump_job, read
from harness.vocabulary import RunResult
from harness.vocabulary.backends import BACKENDS

HERE = facts.backend()
"""The backend of this process and of those that it starts."""
ELSEWHERE = next(name for name in BACKENDS if name != HERE)

# wide has the report's own distance: rms 0.805 over 151,936 logits is an L2 of 313.8, above the 255.97 of float16.
MODELS = """\
models:
  - {id: good, source: groundtruth, kind: dial, vocab: 64, weights: [0.5, 0.25]}
  - {id: other, source: groundtruth, kind: dial, vocab: 32, weights: [0.5]}
  - {id: wide, source: groundtruth, kind: dial, vocab: 151936, weights: [0.5], dtype: float16, scale: 0.805}
  - {id: nan, source: groundtruth, kind: dial, vocab: 64, weights: [0.5], logits: nan}
  - {id: absent, source: hub, repo: nobody/nothing, revision: "1"}
"""
CASE = """\
models: [{models}]
engines: [{engines}]
prompts: {{clean: "a", corrupted: "b"}}
sweep: {{components: [{component}]}}
"""


@dataclass(frozen=True)
class Outcome:
    """How a process ended, and the result it wrote, if any."""

    code: int
    out: str
    err: str
    result: RunResult | None = None

    @property
    def statuses(self) -> dict[str, str]:
        assert self.result is not None, self.out + self.err
        return {job.id: job.status.value for job in self.result.jobs}

    @property
    def codes(self) -> set[str]:
        """Every finding of every job that was not expected."""
        assert self.result is not None, self.out + self.err
        return {each.code for job in self.result.jobs for each in job.findings if not each.expected}

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """The jobs as the file holds them, without what differs from run to run."""
        assert self.result is not None, self.out + self.err
        return [{**dump_job(job), "timings": None, "memory": None} for job in self.result.jobs]


class Project:
    """A folder of its own; `run` and `pytest` are the two doors."""

    def __init__(self, folder: Path, capsys: Any):
        self.folder, self.capsys = folder, capsys
        self.write("m.yaml", MODELS)

    def write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def case(
        self, name: str, models: str = "good", engines: str = "native", component: str = "mlp", more: str = ""
    ) -> Path:
        text = CASE.format(models=models, engines=engines, component=component) + more
        return self.write(f"cases/{name}.case.yaml", text)

    def command(self, door: str, *args: str | Path, where: str = "cases") -> list[str]:
        name = "--json" if door == "run" else "--harness-json"
        table = "--models" if door == "run" else "--harness-models"
        start = (
            ["harness", "run"] if door == "run" else ["pytest", where, "-pno:cacheprovider", "-pno:hypothesispytest"]
        )
        start = [*start, table, str(self.folder / "m.yaml"), name, str(self.folder / "result.json")]
        return [sys.executable, "-m", *start, *map(str, args)]

    def run(
        self, *args: str | Path, door: str = "run", where: str = "cases", cwd: Path | None = None, **env: str
    ) -> Outcome:
        """Run a door in a process of its own; `where` is what pytest is asked to collect."""
        (self.folder / "result.json").unlink(missing_ok=True)
        done = subprocess.run(
            self.command(door, *args, where=where),
            cwd=cwd or self.folder,
            env=environment(**env),
            capture_output=True,
            text=True,
        )
        return Outcome(done.returncode, done.stdout, done.stderr, self.result())

    def inside(self, *args: str | Path) -> Outcome:
        """Run a command in this process."""
        (self.folder / "result.json").unlink(missing_ok=True)
        self.capsys.readouterr()
        code = exit_code_of([*map(str, args)])
        shown = self.capsys.readouterr()
        return Outcome(code, shown.out, shown.err, self.result())

    def run_inside(self, *args: str | Path) -> Outcome:
        """`harness run` with the table and a result, in this process: on a GPU it would start a worker unasked."""
        here = () if "-n" in args else ("-n", "0")
        return self.inside(*self.command("run", *here, *args)[3:])

    def pytest_inside(self, *args: str | Path, where: Sequence[str] = ("cases",)) -> Outcome:
        """`pytest cases` with the table and a result, in this process."""
        (self.folder / "result.json").unlink(missing_ok=True)
        self.capsys.readouterr()
        plugins = ["-pno:cacheprovider", "-psyrupy", "-pxdist", "-pharness.pytest_plugin"]
        ours = [f"--harness-models={self.folder / 'm.yaml'}", f"--harness-json={self.folder / 'result.json'}"]
        known = set(sys.modules)
        code = int(pytest.main([*where, *plugins, "--import-mode=importlib", *ours, *map(str, args)]))
        for name in set(sys.modules) - known:
            if str(self.folder) in (getattr(sys.modules[name], "__file__", None) or ""):
                del sys.modules[name]
        shown = self.capsys.readouterr()
        return Outcome(code, shown.out, shown.err, self.result())

    def run_with_input(self, text: str, *args: str | Path) -> Outcome:
        """Run a command in a process of its own that reads this text."""
        command = [sys.executable, "-m", "harness", *map(str, args)]
        done = subprocess.run(
            command, cwd=self.folder, env=environment(), input=text, capture_output=True, text=True, check=False
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def through(self, door: str, *args: str | Path) -> Outcome:
        """Run a door in this process."""
        return self.run_inside(*args) if door == "run" else self.pytest_inside(*args)

    def result(self) -> RunResult | None:
        file = self.folder / "result.json"
        return read(file) if file.exists() else None

    @property
    def snapshots(self) -> dict[str, tuple[bytes, int]]:
        """Every file below snapshots/: its bytes and when it was written."""
        files = sorted(file for file in (self.folder / "snapshots").rglob("*") if file.is_file())
        return {str(file.relative_to(self.folder)): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}

    def snapshot(self, job: str = "native@good", case: str = "good", backend: str = HERE) -> Path:
        return self.folder / "snapshots" / case / f"{job}.{backend}.json"

    def stored(self, **names: str) -> Any:
        return json.loads(self.snapshot(**names).read_text(encoding="utf-8"))


def environment(**more: str) -> dict[str, str]:
    """This process's variables without those that pytest, xdist and CI set, and with no hub to ask."""
    ours = ("PYTEST_", "PY_COLORS", "FORCE_COLOR", "CI", "COV_", "HARNESS_", "COLUMNS", "LINES")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    if "PYTHONPATH" in more and "PYTHONPATH" in kept:
        more["PYTHONPATH"] += os.pathsep + kept["PYTHONPATH"]
    return {**kept, "HF_HUB_OFFLINE": "1", **more}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Iterator[Project]:
    device = mx.default_device()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HARNESS_DEVICE", "")
    # `harness run` changes these for its own process; here that process is the test's.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "")
    monkeypatch.setenv("PYTEST_PLUGINS", "")
    yield Project(tmp_path, capsys)
    if mx.default_device() != device:  # `--device` lasts as long as the process, which is the test's here
        mx.set_default_device(device)
        facts.environment.cache_clear()
