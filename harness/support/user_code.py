"""A function of the user's own, named `module:function`. Importing it runs code: permission was asked before."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.support.ctrl_c import is_of_code
from harness.vocabulary.errors import UsageError, described, described_at


def search(folder: Path) -> None:
    """Find modules of the user's own in this folder too, after all that is installed. Permission was asked before."""
    if (name := str(folder.resolve())) not in sys.path:
        sys.path.append(name)


def function_named(name: str, kind: str) -> Callable[..., Any]:
    """Import the function that `module:function` means; `kind` is what it is to be, for the message.

    Raises UsageError where it cannot be imported, whatever its module raises, or is no function.
    """
    search(Path.cwd())
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        said = described_at(error).partition(": ")[2]
        raise UsageError(f"the {kind} {name!r} cannot be imported: {said}") from error
    except KeyboardInterrupt:
        raise
    # A file that is also a script ends the process where it is imported, with SystemExit or with a skip of pytest's.
    except BaseException as error:
        raise UsageError(f"the {kind} {name!r} cannot be imported: {described_at(error)}") from error
    if not callable(found):
        raise UsageError(f"the {kind} {name!r} is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]  # checked one line above


class CodeRaised(Exception):
    """Somebody's code raised what is no Exception (SystemExit, KeyboardInterrupt, pytest's skip), or has no text; it is
    the cause."""


def contained(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of somebody's so that all it raises is an Exception with a text; only Ctrl-C stays itself."""

    @functools.wraps(function)
    def called(*args: Any, **named: Any) -> Any:
        try:
            return function(*args, **named)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and not is_of_code(error):
                raise
            if isinstance(error, Exception) and _has_text(error):
                raise
            raise CodeRaised(described(error)) from error

    return called


def _has_text(error: BaseException) -> bool:
    try:
        return isinstance(str(error), str)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  the exception is somebody's, and so is its __str__
        return False
