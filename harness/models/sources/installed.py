"""The architectures that the installed mlx-lm brings, each imported by itself.

`import mlx_lm` imports transformers for tokenizers and generation, which takes 0.7 s. The code of an architecture needs
neither, and Python runs a package before any module in it. So the package is put in place without being run; whoever
asks it for a name it lacks (`mlx_lm.load`) has it run then, and gets what `import mlx_lm` gives.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any

_PACKAGE = "mlx_lm"
_RUNNING = RLock()


def architectures() -> list[str]:
    """Return every architecture of the installed mlx-lm, without importing it."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return []
    files = (Path(spec.origin).parent / "models").glob("*.py")
    return sorted(file.stem for file in files if "class ModelArgs" in file.read_text(encoding="utf-8"))


def code_of(name: str) -> Any:
    """Return the module `mlx_lm.models.<name>`: of an architecture, or `cache`. Raises what importing it raises."""
    if _PACKAGE not in sys.modules:
        _put_in_place()
    return importlib.import_module(f"{_PACKAGE}.models.{name}")


def _put_in_place() -> None:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.loader is None:
        return  # importing says so
    package = importlib.util.module_from_spec(spec)
    package.__class__ = _NotRun
    sys.modules[_PACKAGE] = package


class _NotRun(ModuleType):
    """A package that is run when it is asked for a name that it lacks."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") or name in ("__all__", "__version__"):
            with _RUNNING:
                if type(self) is _NotRun:
                    _run(self)
                if type(self) is not _BeingRun:
                    return getattr(self, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _BeingRun(_NotRun):
    """The same while it runs: its own thread is told what is not there yet, others wait."""


def _run(package: ModuleType) -> None:
    package.__class__ = _BeingRun
    try:
        assert package.__spec__ is not None
        assert package.__spec__.loader is not None
        package.__spec__.loader.exec_module(package)
    except BaseException:
        package.__class__ = _NotRun  # the next one who asks gets the error again
        raise
    package.__class__ = ModuleType
