"""Ctrl-C and SIGTERM: what was asked by then is written, and the exit code is 2."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from project import Project, environment

# The second row asked of it never ends.
SLOW = """\
import os, time, pathlib

def patch(model, clean, corrupted, component, layers, metric):
    if {when}:
        pathlib.Path("begun").touch()
        time.sleep(600)
    return dict.fromkeys(layers, 0.0)


patch.harness = {{"units": "percent", "metrics": ["l2"], "components": ["mlp", "self_attn", "attn", "mixer"]}}
"""
FILES = ("laws.json", "laws.xml", "laws.md")


def stopped(project: Project, words: list[str], number: int, ignored: bool = False) -> tuple[int, str]:
    """Start a command, send it a signal once its engine has begun to wait, and return how it ended."""
    command = [sys.executable, "-m", "harness", *words]
    process = subprocess.Popen(
        command, cwd=project.folder, env=environment(PYTHONPATH=str(project.folder)), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if ignored else None,
    )  # fmt: skip
    try:
        while not (project.folder / "begun").exists() and process.poll() is None:
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        time.sleep(1)  # until the process of the run has been told that this job began
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode, out


@pytest.mark.parametrize(
    ("number", "ignored"),
    [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)],
    ids=["Ctrl-C", "SIGTERM", "SIGTERM in the background"],
)
def test_the_rows_before_it_are_written_and_the_others_listed(project: Project, number: int, ignored: bool) -> None:
    project.write("mine.py", SLOW.format(when='getattr(model, "model_type", "") == "gpt2"'))
    outputs = ["--json", FILES[0], "--junit", FILES[1], "-o", FILES[2]]
    rows = ["--row", "llama", "--row", "gpt2", "--row", "qwen2"]
    words = ["conformance", "-e", "mine:patch", "--allow-code", *rows, "--law", "answers", "--law", "names", *outputs]
    code, out = stopped(project, words, number, ignored)
    assert code == 2, out
    assert "INTERRUPTED: 1 of 3 rows, " in out
    assert "not reached: gpt2, qwen2" in out
    assert "Traceback" not in out
    written = json.loads((project.folder / FILES[0]).read_text())
    assert {cell["row"] for cell in written["cells"]} == {"llama"}
    assert written["unreached"] == ["gpt2", "qwen2"]
    suite = ElementTree.parse(project.folder / FILES[1]).getroot()
    assert (suite.get("errors"), len(list(suite.iter("error")))) == ("2", 2)
    assert "not reached: gpt2, qwen2" in (project.folder / FILES[2]).read_text()


def test_a_row_that_was_begun_keeps_the_laws_before_it(project: Project) -> None:
    project.write("mine.py", SLOW.format(when="metric == 'l3'"))
    words = ["conformance", "-e", "mine:patch", "--allow-code", "--row", "llama", "--json", FILES[0]]
    code, out = stopped(project, [*words, "--law", "answers", "--law", "names"], signal.SIGTERM)
    written = json.loads((project.folder / FILES[0]).read_text())
    assert (code, [cell["law"] for cell in written["cells"]], written["unreached"]) == (2, ["answers"], ["llama"]), out


def test_processes_of_their_own_end_with_it(project: Project) -> None:
    project.write("mine.py", SLOW.format(when="pathlib.Path('pids').open('a').write(f'{os.getpid()} ')"))
    words = ["conformance", "-e", "mine:patch", "--allow-code", "--all", "--law", "answers", "--json", FILES[0]]
    code, out = stopped(project, words, signal.SIGTERM)
    assert code == 2, out
    assert "INTERRUPTED: 0 of " in out
    for pid in (project.folder / "pids").read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_sigterm_ends_a_run_as_ctrl_c_does(project: Project, workers: tuple[str, ...]) -> None:
    project.case("a")
    project.case("b", engines="'mine:patch'", more="metrics: [l2]\n")
    project.write("mine.py", SLOW.format(when="True"))
    words = ["run", "--models", "m.yaml", "--allow-code", "--json", "result.json", "-o", "r.md", *workers]
    code, out = stopped(project, words, signal.SIGTERM)
    assert code == 2, out
    result = project.result()
    assert {job.id: job.status.value for job in result.jobs} == {
        "a[native@good]": "passed", "b[mine:patch@good]": "interrupted"}  # fmt: skip
    assert result.exit_code == 2
    assert Path(project.folder / "r.md").exists()
    assert "INTERRUPTED: " in out
