"""One spelling for one idea, in every command; values have a name in the help and are completed by the shell."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from project import Project

from harness.cli import cli, completers
from harness.cli.parameters import OutputFile
from harness.laws import LAWS
from harness.laws.conformance.rows import usual_rows

IDEAS = {
    ("-m", "--model"): {"model", "models", "name"},
    ("-c", "--component"): {"component", "components"},
    ("-e", "--engine"): {"engine", "engines", "name"},
    ("-t", "--tag"): {"tags"},
    ("--metric",): {"metric", "metrics"},
    ("--models",): {"tables"},
    ("--allow-code",): {"allow_code"},
    ("--json",): {"json_file"},
    ("-o", "--output"): {"outputs", "output", "file", "page_file", "plot"},
    ("-n", "--workers"): {"workers"},
    ("-v", "--verbose"): {"verbose"},
    ("--ids",): {"ids"},
    ("--clean",): {"clean"},
    ("--corrupted",): {"corrupted"},
    ("--download",): {"download"},
    ("--device",): {"device"},
    ("--results",): {"results"},
}
COMPLETED = {"-m", "-c", "-e", "-t", "--metric", "--with-engine", "--reference", "--law", "--row"}
BUILT_IN = {"TEXT", "PATH", "INTEGER", "FLOAT", "BOOLEAN"}
# Words for something else: two names to compare, a function to write an adapter for, the ids of jobs.
OTHERWISE = {
    ("run", "--job"),
    ("compare", "--engines"),
    ("compare", "--models"),
    ("init", "--engine"),
    ("zoo run", "--clean"),
}
# A prompt, and an answer, are any text.
TEXTS = {"--prompt", "--clean", "--corrupted", "--mean-of", "--answer", "--wrong"}


def options(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Option]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from options(command, (*path, name))
        else:
            visible = (each for each in command.params if isinstance(each, click.Option) and not each.hidden)
            yield from ((" ".join((*path, name)), option) for option in visible)


SEEN = [(path, option) for path, option in options() if not {(path, word) for word in option.opts} & OTHERWISE]


def test_every_idea_is_spelt_alike_everywhere() -> None:
    spelt = {word: idea for idea in IDEAS for word in idea}
    wrong = [
        f"{path} {'/'.join(option.opts)}"
        for path, option in SEEN
        if (ideas := {spelt[word] for word in option.opts if word in spelt})
        and not (len(ideas) == 1 and {*option.opts} >= {*next(iter(ideas))} and option.name in IDEAS[next(iter(ideas))])
    ]
    assert wrong == []


def test_an_idea_has_no_other_spelling() -> None:
    for idea, names in IDEAS.items():
        only = names - {name for other, theirs in IDEAS.items() if other != idea for name in theirs}
        others = [
            f"{path} {option.opts}" for path, option in SEEN if option.name in only and not {*idea} & {*option.opts}
        ]
        assert others == [], idea


def test_every_value_has_a_name_of_its_own() -> None:
    bare = [
        f"{path} {option.opts[-1]}"
        for path, option in SEEN
        if not option.is_flag
        and not {*option.opts} & TEXTS
        and option.make_metavar(click.Context(click.Command("x"))) in BUILT_IN
    ]
    assert bare == []


def test_every_file_that_is_written_goes_by_its_suffix() -> None:
    written = [(path, option) for path, option in SEEN if {"--json", "-o"} & {*option.opts}]
    assert len(written) > 15
    assert [f"{path} {option.opts}" for path, option in written if not isinstance(option.type, OutputFile)] == []


def test_json_takes_a_file_or_standard_output_everywhere() -> None:
    types = [option.type for _, option in SEEN if "--json" in option.opts]
    assert len(types) >= 11
    assert all(isinstance(kind, OutputFile) and kind.screen for kind in types)


def test_what_has_names_is_completed() -> None:
    left = [
        f"{path} {option.opts[-1]}"
        for path, option in SEEN
        if {*option.opts} & COMPLETED and option._custom_shell_complete is None
    ]
    assert left == []


def test_laws_and_rows_are_those_that_there_are() -> None:
    context = click.Context(click.Command("x"))
    parameter = click.Argument(["x"])
    assert set(completers.laws(context, parameter, "")) == set(LAWS)
    shown = set(completers.rows(context, parameter, ""))
    assert {row.id for row in usual_rows() if not row.id.endswith(("-f16", "-bf16"))} <= shown


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["--clean-ids", "1,2,3", "--corrupted-ids", "1,5,3"], ["--clean", "1,2,3", "--corrupted", "1,5,3", "--ids"]),
        (
            ["--prompt-ids", "1,2", "--answer-ids", "3,4"],
            ["--prompt", "1,2", "--answer", "3", "--wrong", "4", "--ids"],
        ),
    ],
)
def test_the_old_spelling_of_ids_does_the_same_with_a_note(project: Project, old: list[str], new: list[str]) -> None:
    asked = ["diagnose", "-m", "llama-2k-f32"]
    before, now = project.inside(*asked, *old), project.inside(*asked, *new)
    assert (before.code, before.out) == (now.code, now.out)
    assert f"{old[0]} is now {old[0].removesuffix('-ids')} with --ids" in before.err
    assert "is now" not in now.err


def test_json_alone_and_a_path_after_it_are_told_apart(project: Project) -> None:
    project.case("good")
    table = ("--models", "m.yaml")
    alone = project.inside("list", *table, "--json", "cases")
    assert (
        alone.out
        == project.inside("list", "cases", *table, "--json", "-").out
        == project.inside("list", *table, "--json").out
    )
    project.inside("list", "cases", *table, "--json", "jobs.json")
    assert (project.folder / "jobs.json").read_text() == alone.out
    result = project.inside("run", "cases", *table, "--json", "-", "-q")
    assert result.out.startswith("{")
    assert '"exit_code": 0' in result.out
    assert "PASSED" in result.err
