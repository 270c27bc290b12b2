"""`--device` and HARNESS_DEVICE: one option of every command that runs a model, and one place that sets it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click
import mlx.core as mx
import pytest
from project import Project

from harness.cli import COMMANDS, cli
from harness.environment import facts

RUNS_NO_MODEL = {
    "list", "validate", "schema", "merge", "explain", "report", "compare", "replay", "init", "completion",
    "models list", "models fetch", "snapshots prune", "zoo list", "zoo rules",
}  # fmt: skip
HERE, THERE = ("gpu", "cpu") if mx.is_available(mx.gpu) else ("cpu", "gpu")


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def test_every_command_that_runs_a_model_has_the_option_and_no_other() -> None:
    assert set(COMMANDS) == set(cli.list_commands(click.Context(cli)))
    every = dict(commands(cli))
    with_it = {name for name, command in every.items() if any("--device" in each.opts for each in command.params)}
    assert set(every) - with_it == RUNS_NO_MODEL & set(every)


PATCH = ("patch", "-m", "llama-2k-f32", "--ids", "--clean", "5,6,7", "--corrupted", "5,9,7", "-c", "mlp")
ASKED = [
    PATCH,
    ("diagnose", "-m", "llama-2k-f32", "--prompt", "5,6,7", "--ids"),
    ("conformance", "-e", "native", "--row", "llama", "--law", "identity"),
    ("models", "architectures", "--only", "llama"),
    ("zoo", "run", "--only", "F01"),
    ("doctor",),
]


@pytest.mark.skipif(mx.is_available(mx.gpu), reason="needs a machine on which a device is missing")
@pytest.mark.parametrize("words", ASKED, ids=lambda words: words[0])
def test_a_device_that_is_not_there_is_refused_before_any_work(
    project: Project, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    got = project.inside(*words, "--device", THERE)
    assert (got.code, got.err) == (4, f"harness: --device {THERE}: MLX has no {THERE} here\n")
    monkeypatch.setenv(facts.VARIABLE, THERE)
    got = project.inside(*words)
    assert (got.code, got.err) == (4, f"harness: HARNESS_DEVICE={THERE}: MLX has no {THERE} here\n")


def test_the_option_goes_over_the_variable(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(facts.VARIABLE, THERE)
    assert project.inside("doctor", "--device", "cpu", "--json").code == 0
    monkeypatch.setenv(facts.VARIABLE, "tpu")
    got = project.inside(*PATCH)
    assert (got.code, got.err) == (4, "harness: HARNESS_DEVICE=tpu: expected cpu or gpu\n")


@pytest.mark.parametrize("door", ["run", "pytest"])
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "workers"])
def test_a_run_is_on_the_device_that_the_variable_names(project: Project, door: str, workers: tuple[str, ...]) -> None:
    project.case("c")
    got = project.run(*workers, door=door, HARNESS_DEVICE="cpu")
    assert got.code == 0
    assert got.result is not None
    assert got.result.environment.backend.startswith("cpu")


@pytest.mark.parametrize(("door", "workers"), [("run", ()), ("pytest", ()), ("pytest", ("-n", "1"))])
def test_a_run_is_refused_where_the_variable_means_no_device(
    project: Project, monkeypatch: pytest.MonkeyPatch, door: str, workers: tuple[str, ...]
) -> None:
    project.case("c")
    monkeypatch.setenv(facts.VARIABLE, "tpu")
    refused = project.through(door, *workers)
    assert (refused.code, refused.result) == (4, None)
    assert "HARNESS_DEVICE=tpu: expected cpu or gpu" in refused.out + refused.err


def test_processes_that_are_started_have_it_too(project: Project) -> None:
    facts.use_device("cpu")
    assert json.loads(project.inside("doctor", "--json").out)["facts"]["backend"].startswith("cpu")
    assert facts.os.environ[facts.VARIABLE] == "cpu"
