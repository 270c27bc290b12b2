"""Code of the user's own that does not want to be imported is named as that, whatever it raises."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from project import Project, project

from harness.support.ctrl_c import CtrlC, told_apart
from harness.support.user_code import CodeRaised, contained, function_named
from harness.vocabulary.errors import MOST_SAID, UsageError, described

__all__ = ["project"]

SCRIPTS = {
    "exits": ("import sys; sys.exit(1)", "SystemExit: 1"),
    "exits_well": ("raise SystemExit", "SystemExit"),
    "parses": ("import argparse; argparse.ArgumentParser().parse_args(['--unknown'])", "SystemExit: 2"),
    "skips": ("import pytest; pytest.importorskip('no_such_module_at_all')", "Skipped: could not import"),
    "fails": ("import pytest; pytest.fail('not here')", "Failed: not here"),
    "raises": ("raise ValueError('x')", "ValueError: x"),
    "unspeakable": (
        "class Bad(Exception):\n    def __str__(self): raise RuntimeError('no')\nraise Bad",
        "Bad: (its text cannot be made: RuntimeError)",
    ),
    "stops": ("raise GeneratorExit", "GeneratorExit"),
    "absent": ("import no_such_module_at_all", "No module named 'no_such_module_at_all'"),
}


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, (text, _) in SCRIPTS.items():
        (tmp_path / f"script_{name}.py").write_text(f"{text}\ndef patch(*_): ...\n")
    return tmp_path


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_module_that_ends_the_process_cannot_be_imported(scripts: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        function_named(f"script_{name}:patch", "engine")
    assert f"the engine 'script_{name}:patch' cannot be imported: {SCRIPTS[name][1]}" in str(caught.value)


def test_ctrl_c_while_importing_is_ctrl_c(scripts: Path) -> None:
    (scripts / "script_interrupted.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        function_named("script_interrupted:patch", "engine")


COMMANDS = {
    "run": "run --with-engine {} --allow-code --models m.yaml",
    "conformance": "conformance -e {} --allow-code",
    "patch": "patch -m good --models m.yaml --clean a --corrupted b -e {} --allow-code",
    "diagnose": "diagnose --model good --models m.yaml --clean a --corrupted b -e {} --allow-code",
}


@pytest.mark.parametrize("name", ["exits", "skips"])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_ends_in_silence(project: Project, scripts: Path, command: str, name: str) -> None:
    project.case("good")
    got = project.inside(*COMMANDS[command].format(f"script_{name}:patch").split())
    assert got.code == 4, got.out + got.err
    assert f"script_{name}:patch' cannot be imported: {SCRIPTS[name][1]}" in got.err


@pytest.mark.parametrize(("command", "code"), [("show c --models m.yaml", 0), ("snapshots status --models m.yaml", 1)])
def test_a_case_that_names_such_code_is_shown_without_it(
    project: Project, scripts: Path, command: str, code: int
) -> None:
    project.case("c", engines="script_exits:patch")
    got = project.inside(*command.split())
    assert got.code == code, got.out + got.err
    assert "whether script_exits:patch exists, and what it answers, is seen when it runs" in got.out


def test_an_exceptions_text_is_kept_to_a_size() -> None:
    said = described(ValueError("x" * 200_000))
    assert len(said) < MOST_SAID + 100
    assert said.endswith("(and 136,000 more characters)")


ENGINE = """\
class Silent(Exception):
    def __str__(self):
        raise ValueError("no text")

    __repr__ = __str__


class Ending(Exception):
    def __str__(self):
        raise SystemExit(0)


def patch(model, clean, corrupted, component, layers, metric):
    {}


patch.harness = {{"units": "percent", "metrics": ["l2"], "components": ["mlp"]}}
"""
RAISED = {
    "raise SystemExit(0)": "SystemExit: 0",
    "import pytest; pytest.importorskip('nothing_of_that_name')": "Skipped: could not import",
    "raise GeneratorExit": "GeneratorExit",
    "raise Silent": "Silent: (its text cannot be made: ValueError)",
    "raise Ending": "Ending: (its text cannot be made: SystemExit)",
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("body", RAISED)
def test_whatever_an_engine_raises_is_said_of_the_engine(
    project: Project, scripts: Path, command: str, body: str
) -> None:
    name = f"raising_{list(RAISED).index(body)}"
    (scripts / f"{name}.py").write_text(ENGINE.format(body), encoding="utf-8")
    project.case("good")
    row = "--row llama --law answers" if command == "conformance" else ""
    got = project.inside(*f"{COMMANDS[command].format(f'{name}:patch')} {row}".split())
    assert got.code == 1, got.out + got.err
    assert RAISED[body] in got.out + got.err
    assert "Traceback" not in got.out + got.err
    assert "internal error" not in got.err


LEAVING = """\
import os
{at_import}
def patch(model, clean, corrupted, component, layers, metric):
    os._exit({status})

patch.harness = {{"units": "percent", "metrics": ["l2"], "components": ["mlp"]}}
"""


@pytest.mark.parametrize(("status", "code"), [(0, 3), (1, 1)])
def test_an_engine_that_ends_the_process_at_its_import_never_passes(project: Project, status: int, code: int) -> None:
    project.write("leaving.py", LEAVING.format(at_import=f"os._exit({status})", status=status))
    project.case("c", more="metrics: [l2]\n")
    got = project.run("--with-engine", "leaving:patch", "--allow-code", PYTHONPATH=str(project.folder))
    assert (got.code, got.result) == (code, None)
    assert ("somebody's code ended the process: os._exit(0)" in got.err) is (status == 0)


@pytest.mark.parametrize("status", [0, 1])
def test_an_engine_that_ends_its_process_costs_its_own_job(project: Project, status: int) -> None:
    project.write("leaving.py", LEAVING.format(at_import="", status=status))
    project.case("c", more="metrics: [l2]\n")
    got = project.run("--with-engine", "leaving:patch", "--allow-code", PYTHONPATH=str(project.folder))
    assert got.code == 3
    assert got.statuses == {"c[native@good]": "passed", "c[leaving:patch@good]": "crashed"}
    (crashed,) = (job for job in got.result.jobs if job.status == "crashed")
    assert "the process that ran this job ended with exit code" in crashed.reason


def test_a_child_process_of_an_engine_ends_as_it_likes(project: Project) -> None:
    forking = (
        "import os\nchild = os.fork()\nif child == 0:\n    os._exit(0)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\ndef patch(*_): ...\n"
    )
    project.write("forking.py", forking)
    got = project.run("--with-engine", "forking:patch", "--allow-code", PYTHONPATH=str(project.folder))
    assert "has no argument" in got.err
    assert "ended the process" not in got.err


def test_an_interrupt_is_told_from_a_signal_also_inside_of_another_that_tells_them_apart() -> None:
    def interrupts() -> None:
        raise KeyboardInterrupt("mine")

    with told_apart(), told_apart():
        with pytest.raises(CodeRaised, match="mine"):
            contained(interrupts)()
        with pytest.raises(CtrlC):
            contained(signal.raise_signal)(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        contained(interrupts)()
