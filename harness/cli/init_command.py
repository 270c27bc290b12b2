"""`harness init`: a first case, configuration and a CI workflow, in somebody else's repository."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import click

from harness.casefile.language.fields import CODE
from harness.cli.help import Helped
from harness.support.configuration import FILE, MOST_BYTES, load
from harness.support.files import is_below, write_text
from harness.support.inputs import read_input
from harness.vocabulary.errors import UsageError

_SCAFFOLD = Path(__file__).with_name("scaffold")
_CASE, _WORKFLOW = Path("cases/first.case.yaml"), Path(".github/workflows/harness.yml")


@click.command("init", cls=Helped)
@click.argument("folder", default=".", type=click.Path(path_type=Path), metavar="[DIR]")
@click.option("--engine", metavar="MODULE:FUNCTION", help="Your patching: an adapter, a case, known failures and CI.")
def command(folder: Path, engine: str | None) -> None:
    """Write a first case, configuration and a CI workflow.

    Into DIR, or the current folder. What is there already is left alone; nothing of an engine is imported.
    """
    if engine is not None and not re.fullmatch(CODE, engine):
        raise UsageError(f"--engine {engine}: expected module:function, a function of your own")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder")
    try:
        # The configuration first: where it cannot be added, nothing is written.
        first = [_configure(folder)]
        own = _write_engine(folder, engine) if engine else _write_first(folder)
    except OSError as error:
        raise UsageError(f"{error.filename or folder} cannot be written: {error.strerror or error}") from error
    for line in (*first, *own):
        click.echo(line)
    click.echo("\nnext:")
    for command, why in (
        *([(shlex.join(["cd", str(folder)]), "")] if folder != Path() else []),
        *(_next_of(engine) if engine else _NEXT),
    ):
        click.echo(f"  {command:<32}{f' # {why}' if why else ''}".rstrip())


_NEXT = (
    ("harness run", "the case passes, and warns that no numbers are stored"),
    ("harness run --snapshot-update", "store its numbers under snapshots/, to be committed"),
)


def _adapter(engine: str) -> str:
    return engine.partition(":")[0].replace(".", "_") + "_adapter"


def _next_of(engine: str) -> Iterator[tuple[str, str]]:
    asked = f"harness conformance --engine {_adapter(engine)}:patch --allow-code"
    yield f"{asked} --row llama", "the laws, on one small model; without --row on all"
    yield f"{asked} --known known.yaml --write-known known.yaml", "what fails is known from now on"
    yield "harness run --allow-code --known known.yaml --snapshot-update", "the case; its numbers are stored"
    yield f"harness run --allow-code --known known.yaml {_GATE}", "the gate, as the workflow runs it"
    yield "pytest cases --harness-allow-code --harness-known known.yaml", "the case among your tests"


def _write_engine(folder: Path, engine: str) -> list[str]:
    """Write what holds a function of the user's own to the laws and to a case."""
    module, _, function = engine.partition(":")
    adapter, case = _adapter(engine), module.rpartition(".")[2].lower().strip("_") or "engine"
    words = {"engine": engine, "module": module, "function": function, "adapter": adapter, "case": case}
    words |= _of_workflow(folder)
    files = {
        f"{adapter}.py": "adapter.py.txt",
        f"cases/{case}.case.yaml": "engine.case.yaml",
        "known.yaml": "known.yaml",
        str(_WORKFLOW): "engine.yml",
    }
    return [_write(folder, Path(name), template, words) for name, template in files.items()]


def _write_first(folder: Path) -> list[str]:
    return [_write_case(folder), _write(folder, _WORKFLOW, "harness.yml", _of_workflow(folder))]


_GATE = "--strict --require-models --download"
_SOMEWHERE = "git+https://github.com/OWNER/mlx-patch-harness"


def _of_workflow(folder: Path) -> dict[str, str]:
    """Return how a runner gets the harness and the package of the folder, and what a gate asks of a run."""
    package = any((folder / name).exists() for name in ("setup.py", "setup.cfg")) or _is_package(folder / FILE)
    return {"install": f"{'. ' if package else ''}'mlx-patch-harness @ {_origin() or _SOMEWHERE}'", "gate": _GATE}


def _is_package(file: Path) -> bool:
    if not file.is_file():
        return False
    table = tomllib.loads(read_input(file, MOST_BYTES).decode("utf-8"))
    return "project" in table or "build-system" in table


def _origin() -> str | None:
    """Return the address and commit that this harness was installed from by pip, if that is a git address."""
    try:
        found = json.loads(distribution("mlx-patch-harness").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    git = found.get("vcs_info", {})
    return f"{git['vcs']}+{found['url']}@{git['commit_id']}" if git.get("commit_id") else None


def _write_case(folder: Path) -> str:
    there = sorted((folder / "cases").glob("**/*.case.yaml"))
    return f"left alone {there[0]}: there is a case already" if there else _write(folder, _CASE, "first.case.yaml")


def _write(folder: Path, name: Path, template: str, words: Mapping[str, str] | None = None) -> str:
    if (file := folder / name).exists():
        return f"left alone {file}: it exists"
    text = (_SCAFFOLD / template).read_text(encoding="utf-8")
    write_text(file, text.format_map(words) if words else text, within=folder)
    return f"wrote      {file}"


def _configure(folder: Path) -> str:
    """Add the table to a pyproject.toml that has none. Raises UsageError for one that is not TOML."""
    file, settings = folder / FILE, (_SCAFFOLD / "settings.toml").read_text(encoding="utf-8")
    if not file.exists():
        return f"no {file}: runs here need none; one with [tool.harness] would hold paths, models, workers, strict"
    if load(folder.absolute()).file == file.absolute():
        return f"left alone {file}: it has [tool.harness]"
    if not is_below(file, folder):
        raise UsageError(f"{file} is a link out of {folder}; add [tool.harness] by hand:\n{settings}")
    old = read_input(file, MOST_BYTES).decode("utf-8")
    new = old + _line_end(old) * (1 if old.endswith("\n") or not old else 2) + settings.replace("\n", _line_end(old))
    try:
        tomllib.loads(new)
    except tomllib.TOMLDecodeError as error:
        # `tool` is written as an inline table, which cannot grow.
        raise UsageError(f"{file}: [tool.harness] cannot be appended ({error}); add it by hand:\n{settings}") from None
    with file.open("a", encoding="utf-8", newline="") as stream:
        stream.write(new[len(old) :])
    return f"added      [tool.harness] to {file}"


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
