"""Proofs that other processes made: kept in the user's cache, one file a component, and only for what was proven.

A proof is found again only where everything that it may depend on is the same: the source files of all that defines the
model (`harness.models.as_written`) and of the walk itself, the model's configuration, quantisation, flags, dtype and
shapes, the device, its BLAS, the releases, the component at its layers, the form of the positions, and whether the
prompt is longer than the model's windows, shares a prefix, or has one token. A model that is not what source files say
has no remembered proof. A file that cannot be read, or that holds another claim, counts as absent.

Nobody gets a remembered proof without asking: only inside `trusting` is one looked for or kept. Laws, conformance and
diagnoses do not ask, so they prove anew.
"""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import mlx.core as mx

import harness.intercept
from harness.models.as_written import NotAsWritten, WrittenModel, as_written, hash_of
from harness.models.loaded import LoadedModel
from harness.models.sources import cache
from harness.patching.patch import Patch
from harness.support import blas
from harness.support.files import write_text
from harness.support.version import VERSION

SCHEMA = "mlx-patch-harness/proof/1"
FOLDER = "proofs"
VARIABLE = "HARNESS_PROOFS"
"""What names another folder for proofs."""

_ASKED: ContextVar[str] = ContextVar("remembered proofs", default="")
_TRUST, _ANEW = "trust", "anew"


@contextmanager
def trusting(*, anew: bool = False) -> Iterator[None]:
    """Let sweeps in the block rely on remembered proofs, or with `anew` make theirs, and keep what they prove."""
    token = _ASKED.set(_ANEW if anew else _TRUST)
    try:
        yield
    finally:
        _ASKED.reset(token)


class Proofs:
    """The remembered proofs of one sweep, component by component."""

    def __init__(self, model: LoadedModel, patches: Sequence[Patch], tokens: int, shared: int):
        self.asked, self.day = _ASKED.get(), ""
        self.claims: dict[str, dict[str, Any]] = {}
        if not self.asked:
            return
        try:
            written = as_written(model)
        except NotAsWritten:
            return
        facts = {"model": dict(written.facts), "machine": _machine(), "walk": _own_sources()}
        by_component: dict[str, list[Patch]] = {}
        for patch in patches:
            by_component.setdefault(patch.point.component, []).append(patch)
        for component, those in by_component.items():
            self.claims[component] = {**facts, "claim": _claim(component, those, written, tokens, shared)}

    def known(self) -> frozenset[str]:
        """Return the components that were proven before, and note the day of the oldest proof."""
        if self.asked != _TRUST:
            return frozenset()
        days = {component: day for component, facts in self.claims.items() if (day := _day_of(facts))}
        self.day = min(days.values(), default="")
        return frozenset(days)

    def keep(self, components: frozenset[str]) -> None:
        """Keep what this sweep has proven. A cache that cannot be written keeps nothing."""
        for component in components & self.claims.keys():
            facts = self.claims[component]
            entry = {"schema": SCHEMA, "proven": datetime.date.today().isoformat(), "facts": facts}
            try:
                write_text(_file(facts), json.dumps(entry, indent=1, sort_keys=True))
            except OSError:
                return


def folder() -> Path:
    """Return where proofs are kept; it need not exist."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else cache.root() / FOLDER


def kept() -> list[Path]:
    """Return the files of the proofs that are kept."""
    return sorted(folder().glob("*.json"))


def clear() -> int:
    """Delete every proof that is kept and return how many there were. Raises OSError."""
    files = kept()
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)


def _file(facts: Mapping[str, Any]) -> Path:
    return folder() / f"{hash_of(facts)}.json"


def _day_of(facts: Mapping[str, Any]) -> str:
    """Return the day on which exactly these facts were proven, or nothing."""
    try:
        entry = json.loads(_file(facts).read_text(encoding="utf-8"))
        same = entry["schema"] == SCHEMA and entry["facts"] == json.loads(json.dumps(facts))
        return datetime.date.fromisoformat(entry["proven"]).isoformat() if same else ""
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""


def _claim(component: str, patches: Sequence[Patch], written: WrittenModel, tokens: int, shared: int) -> dict[str, Any]:
    forms = {each.positions if isinstance(each.positions, str) else "listed" for each in patches}
    return {
        "component": component,
        "layers": sorted({patch.point.layer for patch in patches}),
        "positions": sorted(forms),
        "beyond a window": sorted(name for name, width in written.windows.items() if tokens > width),
        "shared prefix": shared > 0,
        "one token": tokens - shared == 1,
    }


def _machine() -> dict[str, Any]:
    return {
        "harness": VERSION,
        **{name: importlib.metadata.version(name) for name in ("mlx", "mlx-lm")},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": f"{mx.default_device()} {sorted(mx.device_info().items())}",
        "BLAS": blas.in_use(),
        "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith("MLX_")},
    }


@functools.cache
def _own_sources() -> str:
    """Return the hash of the code that walks and proves: another walk has another proof."""
    folders = (Path(__file__).parent, Path(harness.intercept.__file__).parent)
    return hash_of([each.read_text(encoding="utf-8") for place in folders for each in sorted(place.glob("*.py"))])
