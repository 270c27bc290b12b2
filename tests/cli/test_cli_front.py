"""The command line around the commands: help, speed, mistakes, pipes, colours, Ctrl-C and internal errors."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from project import Project, environment

from harness import cli
from harness.cli import COMMANDS, exit_code_of

HARNESS = [sys.executable, "-m", "harness"]


def test_help_is_quick() -> None:
    """Processor time, which other processes do not stretch; the command sleeps for nothing, so it is the time taken."""
    taken = []
    for _ in range(5):
        before = os.times()
        subprocess.run([*HARNESS, "--help"], check=True, capture_output=True)
        after = os.times()
        taken.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(taken) < 0.3


@pytest.mark.as_installed("the child is started with MLX replaced already")
def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from harness.cli import exit_code_of; exit_code_of(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert "click" in loaded
    assert not loaded & {"mlx", "mlx_lm", "pytest", "_pytest", "pydantic", "numpy", "rich", "yaml", "transformers"}


@pytest.mark.parametrize("command", [*COMMANDS, "models list", "models fetch"])
def test_every_command_has_help(project: Project, command: str) -> None:
    for option in ("--help", "-h"):
        got = project.inside(*command.split(), option)
        assert got.code == 0
        assert got.out.startswith(f"Usage: harness {command}")
    last = COMMANDS.get(command)
    assert last is None or last in got.out


def test_the_help_says_every_exit_code(project: Project) -> None:
    got = project.inside("--help")
    assert all(f"{code} " in got.out for code in range(6))
    assert all(name in got.out for name in COMMANDS)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["rnu"], "did you mean 'run'?"),
        (["qqq"], "known: compare, completion, "),
        (["run", "--snapshot-updat"], "--snapshot-update"),
        (["run", "--jsn", "x"], "--json"),
        (["--nope"], "No such option"),
        (["patch"], "Missing option"),
        (["models", "ftch"], "ftch"),
        (["run", "-n", "many"], "expected a number of worker processes"),
        (["run", "-n", "-3"], "expected a number of worker processes"),
    ],
)
def test_a_mistake_is_named_and_ends_with_4(project: Project, args: list[str], message: str) -> None:
    got = project.inside(*args)
    assert got.code == 4
    assert message in got.err
    assert "Traceback" not in got.err


def test_no_command_is_help_not_success(project: Project) -> None:
    assert project.inside().code == 4


def test_an_internal_error_is_one_message_and_3(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(cli.cli, "main", fail)
    got = project.inside("list")
    assert got.code == 3
    assert got.err.splitlines()[0] == "harness: internal error: ZeroDivisionError: planted"
    assert "Traceback" not in got.err
    monkeypatch.setenv("HARNESS_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        exit_code_of(["list"])


@pytest.mark.parametrize(("command", "code"), [("list", 0), ("models list", 0), ("doctor", 0), ("run", 0)])
def test_a_reader_that_goes_away_is_no_error_and_no_verdict(project: Project, command: str, code: int) -> None:
    project.case("c")
    writer = subprocess.Popen(
        [*HARNESS, *command.split(), *([] if command == "doctor" else ["--models", "m.yaml"])],
        cwd=project.folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert writer.stdout is not None
    writer.stdout.close()
    writer.stdout = None
    said = writer.communicate(timeout=60)[1]
    assert (writer.returncode, said) == (code, b"")


OUTPUTS = {
    "a reader that reads one line": "| head -n 1",
    "a reader that reads nothing": "| true",
    "closed": ">&-",
    "ascii": "",
}


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_exit_code_does_not_depend_on_who_reads(project: Project, output: str) -> None:
    project.case("c", models="wide", engines="native, legacy")
    assert project.run_inside().code == 1
    commands = {
        "run --models m.yaml": 1,
        "compare result.json result.json --engines native legacy --fail-on state": 1,
        "list --models m.yaml": 0,
    }
    for command, code in commands.items():
        line = f"{shlex.join(HARNESS)} {command} {OUTPUTS[output]}; exit ${{PIPESTATUS[0]}}"
        variables = environment(**({"PYTHONIOENCODING": "ascii"} if output == "ascii" else {}))
        done = subprocess.run(["bash", "-c", line], cwd=project.folder, env=variables, capture_output=True, text=True)
        assert (command, done.returncode, done.stderr) == (command, code, "")


@pytest.mark.parametrize(
    "command",
    [
        "compare whole.json whole.json --engines native legacy --fail-on state --markdown",
        "merge part.json",
        "snapshots status --models m.yaml",
        "replay whole.json --json",
        "patch --models m.yaml -m nan --clean a --corrupted b -c mlp",
        "conformance -e native --row llama --law closed-form",
    ],
)
def test_a_verdict_that_nobody_reads_to_its_end_is_the_same(project: Project, command: str) -> None:
    project.case("c", models="wide", engines="native, legacy")
    project.run_inside("--shard", "1/1")
    (project.folder / "result.json").rename(project.folder / "part.json")
    project.run_inside()
    (project.folder / "result.json").rename(project.folder / "whole.json")
    alone = project.inside(*command.split())
    assert alone.code in (1, 5), alone.err
    line = f"{shlex.join([*HARNESS, *command.split()])} | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=project.folder, env=environment(), capture_output=True, check=False)
    assert done.returncode == alone.code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_standard_output_is_said(project: Project) -> None:
    project.case("c")
    done = subprocess.run(
        ["bash", "-c", f"{shlex.join([*HARNESS, 'list', '--models', 'm.yaml'])} > /dev/full"],
        cwd=project.folder, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        4, "harness: standard output cannot be written: No space left on device\n",
    )  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("door", ["run", "pytest"])
@pytest.mark.parametrize("option", ["json", "junit", "json and junit"])
def test_a_full_disk_behind_a_file_is_said_beside_the_verdict(project: Project, door: str, option: str) -> None:
    project.case("c", more="checks: [finiteness]\n")
    names = {
        "run": {"json": "--json", "junit": "--junit"},
        "pytest": {"json": "--harness-json", "junit": "--junit-xml"},
    }
    asked = [f"{names[door][each]}=/dev/full" for each in option.split(" and ")]
    got = project.run(*asked, door=door)
    assert got.code == 4, got.err
    assert got.out.count("/dev/full cannot be written: ") == len(asked)
    assert "REFUSED: 1 passed; a file was refused or not written in " in got.out
    assert "(exit code 4)" in got.out
    assert "Traceback" not in got.out + got.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_graver_than_a_failure(project: Project) -> None:
    project.case("c", models="wide", engines="legacy")
    got = project.run("--json=/dev/full")
    assert (got.code, "(exit code 4)" in got.out, "1 failed" in got.out) == (4, True, True), got.out
    assert "/dev/full cannot be written" in got.out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_no_internal_error_of_any_command(project: Project) -> None:
    project.case("c", models="good")
    assert project.run_inside().code == 0
    (project.folder / "full.json").symlink_to("/dev/full")
    got = project.run_with_input("", "compare", "result.json", "result.json", "-o", "full.json")
    assert (got.code, "cannot be written" in got.err, "internal" in got.err) == (4, True, False), got.err


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False)],
    ids=["no-terminal", "terminal", "NO_COLOR"],
)
@pytest.mark.parametrize("command", ["run", "list", "models list"])
def test_escape_codes_only_where_they_are_wanted(
    project: Project, monkeypatch: pytest.MonkeyPatch, command: str, variables: dict[str, str], wanted: bool
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    project.case("c", models="wide", engines="legacy")
    got = project.inside(*command.split(), "--models", "m.yaml")
    assert ("\x1b" in got.out + got.err) == wanted


ENDLESS = """\
import mlx.core as mx

def patch(model, clean, corrupted, component, layers, metric):
    while True:
        mx.eval(model(mx.array([clean])))

patch.harness = {"units": "percent", "metrics": ["l2"], "components": ["mlp"], "version": "1.0"}
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_ctrl_c(project: Project, workers: str) -> None:
    """One job never ends; the signal comes when another one is done."""
    project.case("good")
    assert project.run_inside("--snapshot-update").code == 0
    project.write("mine.py", ENDLESS)
    project.case("later", engines="'mine:patch'")
    before = project.snapshots
    run = subprocess.Popen(
        project.command("run", "--snapshot-update", "-v", "--allow-code", "-n", workers),
        cwd=project.folder, env=environment(), stdout=-1, stderr=-2, start_new_session=True,
    )  # fmt: skip
    shown = _until_first_job(run)
    os.killpg(run.pid, signal.SIGINT)
    shown += run.communicate(timeout=60)[0]
    result = project.result()
    assert run.returncode == 2, shown.decode()
    assert b"Traceback" not in shown
    assert result is not None
    assert (result.verdict.value, result.exit_code) == ("interrupted", 2)
    ended = {job.id: job.status.value for job in result.jobs}
    assert result.planned == ("good[native@good]", "later[mine:patch@good]")
    # What a worker was at is lost with the worker.
    assert ended.pop("later[mine:patch@good]", "interrupted") == "interrupted"
    assert ended == {"good[native@good]": "passed"}
    assert project.snapshots == before


def _until_first_job(run: subprocess.Popen[bytes]) -> bytes:
    """Read what is shown until the line of the first job that ends."""
    assert run.stdout is not None
    shown = b""
    while line := run.stdout.readline():
        shown += line
        if line.startswith(b"passed"):
            break
    return shown


LOADS_FOR_EVER = """\
import time
from pathlib import Path
from harness import models

def load(row, **options):
    Path("loading").touch()
    time.sleep(60)

models.load = load
"""


def test_ctrl_c_before_the_first_job(project: Project) -> None:
    project.write("sitecustomize.py", LOADS_FOR_EVER)
    project.case("c")
    run = subprocess.Popen(
        project.command("run"), cwd=project.folder, env=environment(PYTHONPATH=str(project.folder)),
        stdout=-1, stderr=-2, start_new_session=True,
    )  # fmt: skip
    while not (project.folder / "loading").exists():
        time.sleep(0.05)
        assert run.poll() is None
    os.killpg(run.pid, signal.SIGINT)
    shown = run.communicate(timeout=60)[0]
    assert run.returncode == 2, shown.decode()
    assert b"Traceback" not in shown
    result = project.result()
    assert result is not None
    assert result.verdict.value == "interrupted"
    assert [(job.status.value, job.curves) for job in result.jobs] == [("interrupted", ())]


def test_ctrl_c_outside_a_run(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.cli, "main", interrupted)
    got = project.inside("list")
    assert (got.code, got.err) == (2, "harness: interrupted\n")


def test_module_and_version() -> None:
    done = subprocess.run([*HARNESS, "--version"], capture_output=True, text=True, check=True, cwd=Path("/"))
    assert done.stdout.startswith("harness, version 0.")
