"""The workflow files of this repository, read as data: every `run:` step, and the commands in it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTION = ROOT / "action.yml"

sys.path.insert(0, str(ROOT / "docs"))
from check import COMMAND, wrong_command  # noqa: E402  the documentation's checker knows command lines


@dataclass(frozen=True)
class Step:
    """One `run:` step: which file and job it is in, its name, its script and its environment."""

    file: str
    job: str
    name: str
    script: str
    env: dict[str, str]

    @property
    def id(self) -> str:
        return f"{self.file}:{self.job}:{self.name}"

    @property
    def faults(self) -> list[str]:
        """What is wrong with the harness commands in it."""
        lines = COMMAND.findall(re.sub(r"^\s+", "", self.script.replace("\\\n", " "), flags=re.MULTILINE))
        return [fault for line, program in lines if program == "harness" for fault in wrong_command(line)]


def steps() -> Iterator[Step]:
    """Yield every `run:` step of the workflows and of the action."""
    for file in WORKFLOWS:
        for name, job in yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].items():
            yield from _runs(file.name, name, job["steps"])
    yield from _runs(ACTION.name, "action", yaml.safe_load(ACTION.read_text(encoding="utf-8"))["runs"]["steps"])


def _runs(file: str, job: str, found: list[dict[str, Any]]) -> Iterator[Step]:
    for step in found:
        if "run" in step:
            yield Step(file, job, step["name"], step["run"], step.get("env", {}))
