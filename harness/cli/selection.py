"""The options that select jobs, the same in every command, and the settings that stand in for what is not typed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from harness.cli import completers
from harness.cli.output import complain
from harness.jobs.selection import OPTIONS, Selection, SelectionOption
from harness.support.configuration import refuse_linked_results

if TYPE_CHECKING:
    from harness.support.configuration import Configuration

Command = Callable[..., Any]

_SETTINGS = {row.field: row.setting for row in OPTIONS if row.setting} | {
    "workers": "workers", "strict": "strict", "require_models": "require-models", "download": "download",
    "results": "results", "job_timeout": "job-timeout", "known": "known",
}  # fmt: skip
"""Parameter of a command -> key of `[tool.harness]`."""
LOOKING = ("paths", "tables", "models", "engines", "tags", "metrics", "components")
"""The filters of a command that imports no code of the user's own."""
_FILTERS = (*LOOKING, "allow_code")


def _option(row: SelectionOption) -> Callable[[Command], Command]:
    completer = getattr(completers, row.completes) if row.completes else None
    if not row.spellings:
        return click.argument(row.field, nargs=-1, type=click.Path(path_type=Path), shell_complete=completer)
    if isinstance(getattr(Selection(), row.field), bool):
        return click.option(*row.spellings, row.field, is_flag=True, help=row.help)
    return click.option(
        *row.spellings, row.field, multiple=True, metavar=row.metavar, shell_complete=completer, help=row.help
    )


_BY_FIELD = {row.field: _option(row) for row in OPTIONS}
tables_option, allow_code_option = _BY_FIELD["tables"], _BY_FIELD["allow_code"]


def selection_options(*fields: str) -> Callable[[Command], Command]:
    """Give a command the options of these fields of a Selection, as one argument `selection`; none named: the filters.

    What is not typed comes from the configuration.
    """
    chosen = fields or _FILTERS
    # A command that imports no code took the consent once.
    old = [] if "allow_code" in chosen else [_needless_consent]

    def decorated(command: Command) -> Command:
        @functools.wraps(command)
        def with_selection(**given: Any) -> Any:
            values: dict[str, Any] = {field: given.pop(field) for field in chosen}
            lists = {field: tuple(value) for field, value in values.items() if not isinstance(value, bool)}
            if "paths" in chosen:
                _say_what_is_meant(lists["paths"])
            return command(selection=Selection(**{**values, **lists}), **given)

        decorated_command: Command = with_selection
        for row in reversed(OPTIONS):
            if row.field in chosen:
                decorated_command = _BY_FIELD[row.field](decorated_command)
        for option in old:
            decorated_command = option(decorated_command)
        return configured(decorated_command)

    return decorated


def _say_needless(context: click.Context, parameter: click.Parameter, given: bool) -> None:
    if given:
        complain(f"`{context.command_path}` imports no code of yours: it needs no --allow-code")


_needless_consent = click.option("--allow-code", is_flag=True, hidden=True, expose_value=False, callback=_say_needless)


def _say_what_is_meant(paths: tuple[Path, ...]) -> None:
    from harness.jobs.case_files import bundled_by_default
    from harness.support.configuration import BUNDLED

    if bundled_by_default(paths):
        click.echo(f"harness: there is no folder ./cases here: these are the bundled cases (`{BUNDLED}`)", err=True)


def words_of(selection: Selection, *fields: str) -> list[str]:
    """Return the words that select the same again, of all fields or of those named; not what is configured."""
    return selection.words(configuration().values, *fields)


def configured(command: Command) -> Command:
    """Fill what the command line leaves open from `[tool.harness]` of the nearest pyproject.toml."""

    @functools.wraps(command)
    def filled(**given: Any) -> Any:
        context, found = click.get_current_context(), configuration()
        for name in given.keys() & _SETTINGS.keys():
            open_ = context.get_parameter_source(name) is ParameterSource.DEFAULT or given[name] == ()
            if open_ and _SETTINGS[name] in found.values:
                given[name] = _as_typed(name, found.values[_SETTINGS[name]])
            elif open_ and name == "results":
                refuse_linked_results(given[name])
        return command(**given)

    return filled


def configuration() -> Configuration:
    """Return what applies in the current folder."""
    from harness.support import configuration as file

    return file.load(Path.cwd())


def _as_typed(name: str, value: Any) -> Any:
    if name == "paths":
        return tuple(map(Path, value))
    if name == "known":
        return Path(value)
    return str(value) if name == "workers" else value
