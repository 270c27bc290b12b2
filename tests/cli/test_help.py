"""The help of a command: sections that name its own options, and examples that its own options can read."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator

import click
import pytest
from project import Project

from harness.cli import COMMANDS
from harness.cli.help import EXAMPLES, SECTIONS


def commands() -> Iterator[tuple[str, click.Command]]:
    for name in COMMANDS:
        command: click.Command = importlib.import_module(f"harness.cli.{name}_command").command
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", each) for sub, each in command.commands.items())
        else:
            yield name, command


EVERY = dict(commands())


def test_every_command_has_an_example_and_nothing_else_has() -> None:
    assert set(EXAMPLES) == set(EVERY)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_names_options_of_its_command_each_once(name: str) -> None:
    named = [param for names in SECTIONS[name].values() for param in names]
    own = {param.name for param in EVERY[name].params}
    assert len(named) == len(set(named))
    assert set(named) <= own


@pytest.mark.parametrize("name", EVERY)
def test_every_option_is_shown_once_and_no_example_is_folded(project: Project, name: str) -> None:
    shown = project.inside(*name.split(), "--help").out
    context = click.Context(EVERY[name], info_name=name)
    for param in EVERY[name].get_params(context):
        if isinstance(param, click.Option) and (record := param.get_help_record(context)):
            assert len(re.findall(rf"^  {re.escape(record[0])}(  |$)", shown, re.MULTILINE)) == 1, record
    assert all(f"  {line}\n" in shown for line in EXAMPLES[name])


@pytest.mark.parametrize(
    ("name", "line"), [(name, line.rpartition("| ")[2]) for name, lines in EXAMPLES.items() for line in lines]
)
def test_an_example_is_what_its_command_understands(project: Project, name: str, line: str) -> None:
    """Files and models are not there; what is typed is read all the same."""
    words = shlex.split(line.removeprefix('eval "$(').removesuffix(')"'))
    assert words[: 1 + len(name.split())] == ["harness", *name.split()]
    for file in ("before.json", "after.json", "result.json", "1.json", "2.json", "known.yaml"):
        (project.folder / file).touch()
    (project.folder / "model").mkdir()
    (project.folder / "cases").mkdir()
    given = [word for word in words[1 + len(name.split()) :] if word != ">"]
    if ">" in words:
        given = given[:-1]
    EVERY[name].make_context(name, given)
