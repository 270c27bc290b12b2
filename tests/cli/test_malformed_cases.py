"""Whatever a case file holds: a located error, exit 4, no traceback, nothing executed or written, and soon."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from project import Project, environment

GOOD = "models: [good]\nprompts: {clean: a, corrupted: b}\nsweep: {components: [mlp]}\n"
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
CANARY = "touched"

MALFORMED: dict[str, str | bytes] = {
    "duplicate key": GOOD + "models: [other]\n",
    "unknown key": GOOD + "metric: [l2]\n",
    "wrong type": GOOD + "metrics: 5\n",
    "deep nesting": GOOD + "about: " + "[" * 20_000 + "]" * 20_000,
    "deep mappings": GOOD + "about: " + "{a: " * 20_000,
    "yaml bomb": BOMB + GOOD,
    "merge key": GOOD + "<<: {models: [other]}\n",
    "python object": GOOD + f"about: !!python/object/apply:os.system ['touch {CANARY}']\n",
    "python name": GOOD + "about: !!python/name:os.system\n",
    "own tag": GOOD + "about: !include /etc/passwd\n",
    "binary": bytes(range(256)) * 40,
    "latin-1": (GOOD + "about: café\n").encode("latin-1"),
    "utf-16": GOOD.encode("utf-16"),
    "empty": "",
    "only a comment": "# nothing\n",
    "two documents": GOOD + "---\n" + GOOD,
    "10 MB": GOOD + "about: |\n" + "  x\n" * 2_600_000,
    "10 MB on one line": GOOD + "about: '" + "x" * 10_000_000,
    "path traversal in the id": GOOD + "id: ../../up\n",
    "absolute id": GOOD + "id: /etc/up\n",
    "path traversal in an include": GOOD + "include: ../../secret.yaml\n",
    "absolute include": GOOD + "include: /etc/passwd\n",
    "include of a device": GOOD + "include: /dev/zero\n",
    "path traversal in a variant": GOOD + "matrix: {pair: {../up: {}}}\n",
    "nan tolerance": GOOD + "tolerance: {recovery_points: .nan}\n",
    "nan in quotes": GOOD + "tolerance: {recovery_points: 'nan'}\n",
    "infinite tolerance": GOOD + "tolerance: {recovery_points: .inf}\n",
    "negative tolerance": GOOD + "tolerance: {recovery_points: -1}\n",
    "huge number": GOOD + "tolerance: {recovery_points: 1e999}\n",
    "huge matrix": GOOD + f"matrix: {{layers: {[*range(2000)]}, positions: {[*range(2000)]}}}\n",
    "unknown model": GOOD.replace("good", "goood"),
    "a pattern of nothing": GOOD.replace("good", "'zzz*'"),
    "code as an engine": GOOD + "engines: ['os:system']\n",
    "code as a metric": GOOD + "metrics: ['os:system']\n",
    "control characters": GOOD + "about: a\x07b\n",
    "half a surrogate": GOOD + 'about: "\\ud800"\n',
    "tab": GOOD + "about:\n\t- x\n",
    "no mapping": "- models\n",
    "skip without a reason": GOOD + "skip: [{engine: native}]\n",
}


@pytest.mark.parametrize("command", ["validate", "run"])
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_case_is_a_located_error(project: Project, name: str, command: str) -> None:
    text = MALFORMED[name]
    file = project.folder / "cases" / "bad.case.yaml"
    file.parent.mkdir()
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    (project.folder.parent / "secret.yaml").write_text("defaults: {about: secret}")
    before = sorted(project.folder.rglob("*"))
    start = time.process_time()
    got = project.inside(command, "--models", "m.yaml")
    assert time.process_time() - start < 5
    if command == "validate" and name.startswith("code as"):  # it imports none: tests/cli/test_consent.py
        assert (got.code, "whether os:system exists" in got.out) == (0, True)
        return
    assert got.code == 4, got.out + got.err
    assert re.search(r"bad\.case\.yaml:\d+:\d+: ", got.err)
    assert "Traceback" not in got.out + got.err
    assert "secret" not in (got.out + got.err).replace("secret.yaml", "")
    assert all(len(line) < 1500 for line in got.err.splitlines())
    assert sorted(project.folder.rglob("*")) == before


@pytest.mark.parametrize("command", ["validate", "run"])
@pytest.mark.parametrize("name", ["python object", "yaml bomb", "binary"])
def test_the_same_in_a_process_of_its_own(project: Project, name: str, command: str) -> None:
    text = MALFORMED[name]
    file = project.folder / "cases" / "bad.case.yaml"
    file.parent.mkdir()
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    done = subprocess.run(
        [sys.executable, "-m", "harness", command, "--models", "m.yaml"],
        cwd=project.folder, env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 4, done.stdout + done.stderr
    assert re.search(r"cases/bad\.case\.yaml:\d+:\d+: ", done.stderr)
    assert "Traceback" not in done.stderr
    assert not (project.folder / CANARY).exists()


def test_the_case_that_all_of_them_spoil_is_sound(project: Project) -> None:
    project.write("cases/good.case.yaml", GOOD)
    assert project.inside("validate", "--models", "m.yaml").code == 0


def test_every_file_is_named_in_one_round(project: Project) -> None:
    project.write("cases/a.case.yaml", GOOD.replace("good", "goood") + "metrics: [l3]\nengines: [natve]\n")
    project.write("cases/b.case.yaml", GOOD + "models: [other]\n")
    got = project.inside("run", "--models", "m.yaml")
    assert got.code == 4
    assert [line.removeprefix("harness: ").split(": ")[0] for line in got.err.splitlines()] == [
        "cases/a.case.yaml:1:10", "cases/a.case.yaml:4:11", "cases/a.case.yaml:5:11", "cases/b.case.yaml:4:1",
    ]  # fmt: skip


def test_a_fault_of_a_shared_file_is_named_once(project: Project) -> None:
    project.write("cases/common.yaml", "defaults: {metrics: [l3]}\n")
    for name in "ab":
        project.write(f"cases/{name}.case.yaml", GOOD + "include: common.yaml\n")
    got = project.inside("validate", "--models", "m.yaml")
    assert got.err.count("'l3' is not a metric") == 1
    assert "cases/common.yaml:1:22: defaults.metrics[0]" in got.err


def test_both_doors_name_a_malformed_case(project: Project) -> None:
    project.write("cases/bad.case.yaml", GOOD + "metric: [l2]\n")
    got = project.run(door="pytest")
    assert got.code == 4
    assert "bad.case.yaml:4:1: metric: is not a field here" in got.out
    assert Path(project.folder / "result.json").exists()
