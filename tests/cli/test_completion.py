"""Shell completion, through Click's own protocol and, where bash is there, through bash itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import Project, environment

from harness.cli import COMMANDS, completers
from harness.cli.completion_command import SHELLS


def complete(project: Project, *words: str) -> set[str]:
    """Return what would be offered for the last word."""
    typed = ["harness", *words]
    variables = {
        "_HARNESS_COMPLETE": "zsh_complete", "COMP_WORDS": " ".join(typed), "COMP_CWORD": str(len(typed) - 1)
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "harness"], cwd=project.folder, env=environment(**variables), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    # Three lines each: the kind, the word, its help.
    return {word for word in done.stdout.splitlines()[1::3] if word}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_for_every_shell(project: Project, shell: str) -> None:
    got = project.inside("completion", shell)
    assert got.code == 0
    assert "_HARNESS_COMPLETE" in got.out
    assert "harness" in got.out


def test_an_unknown_shell_is_named(project: Project) -> None:
    got = project.inside("completion", "tcsh")
    assert got.code == 4
    assert "bash" in got.err


@pytest.mark.parametrize(
    ("words", "offered", "not_offered"),
    [
        (["expl"], {"explain"}, {"run"}),
        (["explain", "FIN00"], {"FIN001", "FIN005"}, {"ORC001"}),
        (["explain", "fin00"], {"FIN001"}, set()),
        (["run", "ca"], {"cases/a.case.yaml", "cases/deep/b.case.yaml"}, {"m.yaml"}),
        (["run", "cases/d"], {"cases/deep/b.case.yaml"}, {"cases/a.case.yaml"}),
        (["run", "bundled"], {"bundled", "bundled:ladder"}, {"cases/a.case.yaml"}),
        (["run", ""], {"cases/a.case.yaml"}, {"bundled"}),
        (["show", "bundled:lad"], {"bundled:ladder"}, {"bundled:dial"}),
        (["run", "--model", "qwen3-152k"], {"qwen3-152k-f16"}, {"good"}),
        (["run", "--models", "m.yaml", "--model", "g"], {"good"}, {"wide"}),
        (["run", "--engine", ""], {"native", "legacy", "published", "mine:engine"}, set()),
        (["list", "--tag", ""], {"fast", "two-words", "groundtruth"}, set()),
        (["run", "--metric", "l"], {"l2", "logit_diff", "log_prob"}, {"mse"}),
        (["run", "--component", "resid"], {"resid_pre", "resid_post"}, set()),
        (["patch", "-c", ""], {"z", "q", "k", "v", "mlp_post"}, set()),
        (["patch", "--model", "dial-152k-b"], {"dial-152k-bf16"}, set()),
        (["run", "--snap"], {"--snapshot-update"}, set()),
    ],
)  # fmt: skip
def test_what_is_offered(project: Project, words: list[str], offered: set[str], not_offered: set[str]) -> None:
    project.case("a", engines='native, "mine:engine"', more="tags: [fast, two-words]\n")
    project.write("cases/deep/b.case.yaml", "models: [good]\n")
    found = complete(project, *words)
    assert offered <= found
    assert not not_offered & found


def test_tables_of_the_configuration_are_known(project: Project) -> None:
    project.write("pyproject.toml", '[tool.harness]\nmodels = ["m.yaml"]\n')
    assert "wide" in complete(project, "run", "--model", "wi")
    project.write("pyproject.toml", "[tool.harness\n")
    assert complete(project, "run", "--model", "wi") == set()


def test_every_engine_is_offered() -> None:
    """The names are read out of the source, so a new engine that is written otherwise would be forgotten."""
    from click import Command, Context

    from harness.engines import ENGINES

    assert set(ENGINES) <= set(completers.engines(Context(Command("x")), None, ""))  # type: ignore[arg-type]


def test_it_is_quick_and_loads_nothing_heavy(project: Project) -> None:
    code = "import sys; from harness.cli import exit_code_of; exit_code_of([]); print(*sys.modules, file=sys.stderr)"
    typed = {"_HARNESS_COMPLETE": "bash_complete", "COMP_WORDS": "harness run --model q", "COMP_CWORD": "3"}
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project.folder, env=environment(**typed), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    after = os.times()
    assert "plain,qwen3-152k-f16" in done.stdout
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert not loaded & {"mlx", "mlx_lm", "pydantic", "yaml", "numpy", "rich", "pytest"}
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.6


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(project: Project, tmp_path: Path) -> None:
    """The script is sourced and its function asked, as bash does at a press of the key."""
    script = project.inside("completion", "bash").out
    wrapper = project.write("bin/harness", f'#!/bin/sh\nexec {sys.executable} -m harness "$@"\n')
    wrapper.chmod(0o755)
    asked = script + '\nCOMP_WORDS=(harness expl); COMP_CWORD=1; _harness_completion harness; echo "${COMPREPLY[@]}"\n'
    done = subprocess.run(
        ["bash", "-c", asked], cwd=project.folder, capture_output=True, text=True,
        env=environment(PATH=f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}"),
    )  # fmt: skip
    assert done.stdout.split() == ["explain"], done.stderr


def test_every_command_is_completed(project: Project) -> None:
    assert set(COMMANDS) <= complete(project, "")
