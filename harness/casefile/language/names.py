"""Names that only others know: models, by id, pattern or tag, and engines.

A case may ask for `qwen3-152k-f32`, for `qwen3-*`, or for `tag:moe`. Which models those are depends on the model tables
that are loaded with it; `Names` is what the case files' layer is told about them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from harness.casefile.syntax.document import Document, KeyPath, shown
from harness.vocabulary import code_refusal, is_code
from harness.vocabulary.errors import Problem, suggest

TAG = "tag:"


@dataclass(frozen=True)
class Names:
    """The models there are, with their tags, and the engines. `code` lets a case name `module:function`."""

    models: Mapping[str, Collection[str]]
    engines: Collection[str]
    code: bool = False

    def models_of(self, patterns: Iterable[str]) -> list[str]:
        """Return the models that ids, globs and tags mean: each once, in the order asked for."""
        return list(dict.fromkeys(model for pattern in patterns for model in self.matching(pattern)))

    def matching(self, pattern: str) -> list[str]:
        """Return the models that one id, glob or tag means, in the order of the tables."""
        if pattern.startswith(TAG):
            return [model for model, tags in self.models.items() if pattern.removeprefix(TAG) in tags]
        return [model for model in self.models if fnmatchcase(model, pattern)]


def is_pattern(name: str) -> bool:
    """Return whether a name of models may mean several."""
    return name.startswith(TAG) or not {*name}.isdisjoint("*?")


def unknown_names(document: Document, names: Names) -> Iterator[Problem]:
    """Yield every model and engine in a case's data that nobody knows, and code that is not allowed, whatever else is
    wrong with the data."""
    for path, name in _texts(document, ("models",)):
        if not names.matching(name):
            yield document.problem(path, _no_model(name, names))
    for path, name in (*_texts(document, ("engines",)), *_texts(document, ("reference",))):
        if name not in names.engines and not (is_code(name) and names.code):
            yield document.problem(path, _no_engine(name, names))
    for path, name in _texts(document, ("metrics",)):
        if is_code(name) and not names.code:
            yield document.problem(path, code_refusal("metric", name))
    own = names.models_of(name for _, name in _texts(document, ("models",)))
    for path, name in _filters(document.data):
        patterned = is_pattern(name) or any(is_pattern(model) for _, model in _texts(document, ("models",)))
        if patterned and own and not any(fnmatchcase(model, name) for model in own):
            yield document.problem(path, f"{shown(name)} matches no model of this case; {suggest(name, own)}")


def _no_model(name: str, names: Names) -> str:
    if name.startswith(TAG):
        tags = {tag for tags in names.models.values() for tag in tags}
        return f"no model has the tag {shown(name.removeprefix(TAG))}; {suggest(name.removeprefix(TAG), tags)}"
    if is_pattern(name):
        return f"{shown(name)} matches no model; {_near_pattern(name, names.models)}"
    return f"{shown(name)} is not a model; {suggest(name, names.models)}"


def _near_pattern(pattern: str, models: Iterable[str]) -> str:
    """Return `did you mean 'qwen3-*'?` for a pattern whose fixed beginning is misspelt."""
    start = re.split(r"[*?]", pattern, maxsplit=1)[0]
    near = suggest(pattern, {model[: len(start)] + pattern[len(start) :] for model in models})
    return near if near.startswith("did you mean") else "`harness models list` shows what there is"


def _no_engine(name: str, names: Names) -> str:
    if is_code(name):
        return code_refusal("engine", name)
    return f"{shown(name)} is not an engine; {suggest(name, names.engines)}"


def _texts(document: Document, path: KeyPath) -> list[tuple[KeyPath, str]]:
    """Return the texts at a key path, one or a list of them."""
    value = document.data.get(str(path[0]))
    items = list(enumerate(value)) if isinstance(value, list) else []
    found = [((*path, index), item) for index, item in items] if items else [(path, value)]
    return [(where, item) for where, item in found if isinstance(item, str)]


def _filters(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Yield the models that entries of `expect`, `skip` and `xfail` are narrowed to."""
    expect = data.get("expect")
    lists: dict[KeyPath, Any] = {(key,): data.get(key) for key in ("skip", "xfail")}
    lists |= {("expect", key): value for key, value in expect.items()} if isinstance(expect, dict) else {}
    for path, entries in lists.items():
        items = enumerate(entries) if isinstance(entries, list) else ()
        for where, entry in ((path, entries), *(((*path, index), item) for index, item in items)):
            if isinstance(entry, dict) and isinstance(entry.get("model"), str):
                yield (*where, "model"), entry["model"]
