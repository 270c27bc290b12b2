"""What a shell may complete. Quick rather than exact: names are read out of the files as text, and mlx stays away.

A shell waits for an answer at every press of the key, so nothing is validated here; a mistake in a file costs some
suggestions and nothing else.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.support.inputs import read_input
from harness.vocabulary import COMPONENTS, METRICS
from harness.vocabulary.errors import UsageError
from harness.vocabulary.findings import FINDINGS

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_PACKAGE = Path(__file__).parents[1]
_SUFFIX = ".case.yaml"
_MOST_FILES = 500


def codes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a finding code, with its title as help."""
    from click.shell_completion import CompletionItem

    near = [kind for code, kind in FINDINGS.items() if code.startswith(incomplete.upper())]
    return [CompletionItem(kind.code, help=kind.title) for kind in near]


def cases(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the path of a case file a few folders down, or a bundled case by name: `bundled`, `bundled:ladder`.

    Where there is none, the shell completes files itself.
    """
    from click.shell_completion import CompletionItem

    head = incomplete.rpartition("/")[0]
    below = Path(f"{head}/") if "/" in incomplete else Path()
    found = [each for each in map(str, islice(_case_files(below), _MOST_FILES)) if each.startswith(incomplete)]
    if incomplete:
        found += [each for each in _bundled() if each.startswith(incomplete)]
    return [CompletionItem(each) for each in sorted(found)] or [CompletionItem(incomplete, type="file")]


def _bundled() -> list[str]:
    from harness.jobs.case_files import bundled_cases
    from harness.support.configuration import BUNDLED

    names = (file.name.removesuffix(_SUFFIX) for file in bundled_cases().glob(f"*{_SUFFIX}"))
    return [BUNDLED, *(f"{BUNDLED}:{name}" for name in names)]


def _case_files(folder: Path, depth: int = 3) -> Iterator[Path]:
    try:
        entries = sorted(each for each in folder.iterdir() if not each.name.startswith("."))
    except OSError:
        return
    yield from (each for each in entries if each.name.endswith(_SUFFIX))
    if depth:
        for each in entries:
            if each.is_dir() and not each.is_symlink():
                yield from _case_files(each, depth - 1)


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the id of a model: bundled, or of a table that is given or configured."""
    tables = [_PACKAGE / "models" / "table.yaml", *_tables(ctx)]
    return _starting(incomplete, (name for file in tables for name in _ids(file)))


def laws(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a law."""
    table = _text(_PACKAGE / "laws" / "table.py")
    return _starting(incomplete, re.findall(r'\b(?:Law|_of_\w+)\("([a-z-]+)", "[A-Z]{3}\d', table))


def rows(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a row of `conformance`: an architecture, which is a file of mlx-lm, or a closed-form model."""
    found = importlib.util.find_spec("mlx_lm")
    files = Path(found.origin).parent.glob("models/*.py") if found and found.origin else ()
    known = _ids(_PACKAGE / "models" / "table.yaml")
    return _starting(incomplete, [*sorted(file.stem for file in files), *known])


def engines(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of an engine: those with a file in `harness/engines`, and those that cases here name."""
    source = "\n".join(_text(file) for file in (_PACKAGE / "engines").glob("*.py"))
    built_in = re.findall(r'Engine\(\s*(?:name=)?"([a-z0-9_-]+)"', source)
    return _starting(incomplete, [*built_in, *_listed(ctx, "engines")])


def tags(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a tag of the cases or of the models."""
    tables = [_PACKAGE / "models" / "table.yaml", *_tables(ctx)]
    of_models = (name for file in tables for name in _names(_text(file), "tags"))
    return _starting(incomplete, [*_listed(ctx, "tags"), *of_models])


def metrics(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a metric."""
    return _starting(incomplete, METRICS)


def components(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a component."""
    return _starting(incomplete, COMPONENTS)


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if name.startswith(incomplete)})


def _tables(ctx: click.Context) -> list[Path]:
    from harness.support import configuration
    from harness.vocabulary.errors import HarnessError

    given = [Path(name) for name in ctx.params.get("tables") or ()]
    try:
        return given or [Path(name) for name in configuration.load(Path.cwd()).values.get("models", ())]
    except HarnessError:
        return []


def _ids(file: Path) -> list[str]:
    return re.findall(r"\bid:\s*[\"']?([a-z0-9][a-z0-9._-]*)", _text(file))


def _listed(ctx: click.Context, key: str) -> Iterator[str]:
    given = [Path(path) for path in ctx.params.get("paths") or ()] or [Path("cases")]
    files = [file for path in given for file in (path.rglob(f"*{_SUFFIX}") if path.is_dir() else [path])]
    for file in files[:_MOST_FILES]:
        yield from _names(_text(file), key)


def _names(text: str, key: str) -> Iterator[str]:
    """Yield the entries of lists in one line, `tags: [a, b]`."""
    for entries in re.findall(rf"\b{key}:\s*\[([^\]]*)\]", text):
        yield from (name.strip(" \"'") for name in entries.split(",") if name.strip())


def _text(file: Path) -> str:
    try:
        return read_input(file).decode("utf-8")
    except (UsageError, UnicodeDecodeError):
        return ""
