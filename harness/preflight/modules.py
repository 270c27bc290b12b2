"""Which modules an architecture can have, read from its source code without importing it.

mlx-lm writes a module's children as `self.name = ...`. A component whose name is assigned nowhere in the file of the
architecture, nor in those it imports from mlx-lm, exists on no model of it. That a name is assigned somewhere does not
make it a child of every block, so the rest is left to the loaded model.
"""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

from harness.errors import UsageError, suggest
from harness.models.architectures import architecture_of, heads_of
from harness.preflight.shapes import Shape
from harness.preflight.wording import Unknown
from harness.vocabulary import COMPONENTS

_EVERYWHERE = ("resid_pre", "resid_post", "output")
# Children of the composite modules of mlx.nn, whose source is not among mlx-lm's.
_OF_MLX = frozenset({"query_proj", "key_proj", "value_proj", "out_proj", "layers"})
_OWN = {"dial": frozenset({"mlp"})}


def component_fault(component: str, shape: Shape) -> str | Unknown | None:
    """Return why no model of this shape has a component, that nobody can say, or None."""
    if component in _EVERYWHERE:
        return None
    if shape.architecture is None:
        return Unknown("components", shape.missing)
    if component == "z":
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
    names, seen = set(_OF_MLX), set[str]()
    waiting = [architecture]
    while waiting:
        module = waiting.pop()
        if module in seen or not (folder / f"{module}.py").is_file():
            continue
        seen.add(module)
        text = (folder / f"{module}.py").read_text(encoding="utf-8")
        if "setattr(" in text:
            return None
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            elif isinstance(node, ast.ImportFrom) and node.level:
                waiting += [node.module] if node.module else [alias.name for alias in node.names]
    return frozenset(names)
