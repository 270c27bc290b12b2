"""Which modules an architecture can have, read from its source code without importing it.

mlx-lm writes a module's children as `self.name`. A component whose name stands nowhere in the file of the architecture,
nor in those it imports from mlx-lm, exists on no model of it. That a name stands somewhere does not make it a child of
every block, so the rest is left to the loaded model.
"""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

from harness.jobs.preflight.shapes import ModelShape
from harness.jobs.preflight.wording import Unknown
from harness.models.architectures import architecture_of, heads_of
from harness.vocabulary import COMPONENTS, PER_HEAD
from harness.vocabulary.errors import UsageError, suggest

_EVERYWHERE = ("resid_pre", "resid_post", "output")
# Children of the composite modules of mlx.nn, whose source is not among mlx-lm's.
_OF_MLX = frozenset({"query_proj", "key_proj", "value_proj", "out_proj", "layers"})
_OWN_ATTRIBUTE = re.compile(r"\bself\.(\w+)")
_NEIGHBOURS = re.compile(r"^\s*from \.(?: import (?=\w)|(?=\w))([\w, ]+?)(?: import.*)?$", re.MULTILINE)
_OWN = {"dial": frozenset({"mlp"})}


def component_fault(component: str, shape: ModelShape) -> str | Unknown | None:
    """Return why no model of this shape has a component, that nobody can say, or None."""
    if component in _EVERYWHERE:
        return None
    if shape.architecture is None:
        return Unknown("components", shape.missing)
    if component in PER_HEAD:
        return _heads_fault(shape.architecture)
    names = names_in(shape.architecture)
    row = architecture_of(shape.architecture)
    if names is None or (component in COMPONENTS and row.by_block):
        return Unknown("components", f"{shape.architecture} does not say in its source code")
    paths = row.paths(component)
    if any(_lacking(path, names) is None for path in paths):
        return None
    return _said(component, shape.architecture, paths, names)


def _said(component: str, architecture: str, paths: tuple[str, ...], names: frozenset[str]) -> str:
    if component in COMPONENTS:
        return f"{architecture} has no {component} ({COMPONENTS[component]})"
    lacking = next(part for path in paths if (part := _lacking(path, names)))
    near = suggest(lacking, {*names, *COMPONENTS})
    hint = f"; {near}" if near.startswith("did you mean") else ""
    return f"{component!r} is not a component: nothing in {architecture} is called {lacking!r}{hint}"


def _heads_fault(architecture: str) -> str | None:
    try:
        heads_of(architecture)
    except UsageError as error:
        return str(error)
    return None


def _lacking(path: str, names: frozenset[str]) -> str | None:
    """Return the first part of a path that nothing is called."""
    return next((part for part in path.split(".") if part not in names and not part.isdigit()), None)


@cache
def names_in(architecture: str) -> frozenset[str] | None:
    """Return every name that the code of an architecture gives to an attribute, or None where it cannot be told."""
    if architecture in _OWN:
        return _OWN[architecture]
    spec = importlib.util.find_spec("mlx_lm")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "models"
    if not (folder / f"{architecture}.py").is_file():
        return None
    names, seen, waiting = set(_OF_MLX), set[str](), [architecture]
    while waiting:
        file = folder / f"{waiting.pop()}.py"
        if file.stem in seen or not file.is_file():
            continue
        seen.add(file.stem)
        text = file.read_text(encoding="utf-8")
        if "setattr(" in text:
            return None
        names.update(_OWN_ATTRIBUTE.findall(text))
        waiting += [name for names in _NEIGHBOURS.findall(text) for name in re.findall(r"\w+", names)]
    return frozenset(names)
