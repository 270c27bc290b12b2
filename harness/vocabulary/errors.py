"""Every error the harness raises on purpose, as one tree.

    HarnessError                    exit code 3  something inside is wrong
    ├── UsageError                  exit code 4  the request cannot be carried out as written
    │   ├── CaseFileError                        a YAML file is wrong; holds every Problem found in it
    │   ├── UnknownName                          a name nobody knows, with the nearest one that exists
    │   ├── PromptError                          an empty prompt, a token outside the vocabulary, no tokenizer
    │   └── SnapshotUnreadable                   a file that is no snapshot of this version, and why
    ├── ModelUnavailable            exit code 5  the model is not on this machine; the job is skipped
    ├── NothingToRun                exit code 5  what is asked for leaves no job, or not here
    │   └── DeviceUnavailable                    MLX runs on another device than the one required
    ├── EngineUnavailable           exit code 5  the engine is absent, or cannot do what is asked; the job is skipped
    │   └── Unsupported                          an adapter's own word: its engine does not do this
    ├── FindingError                exit code 1  the request ran into a finding; `.finding` holds it
    │   ├── AlignmentError                       the prompts differ in token length
    │   ├── BaselineError                        the baseline is zero or not finite: no recovery exists
    │   └── DeviceFailed                         the device failed, whoever's call it was that raised
    ├── TapError                    exit code 3  an interception did not do what it promised
    ├── SweepFailed                 exit code 3  a forward pass of a sweep raised; holds the cells before it
    └── SnapshotRefused             exit code 1  a value that must never be stored

    KeyboardInterrupt
    └── SweepInterrupted            exit code 2  Ctrl-C during a sweep; holds the cells before it
        JobInterrupted              exit code 2  the same, with the result of the job it ended

Errors that carry a noun (a finding, an answer, a result) are in `raised.py`.

An error's text says where, what was seen, and what would be right; the CLI prints it without a traceback and
ends with the error's exit code.
"""

from __future__ import annotations

import difflib
import os
import re
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.vocabulary.paths import near
from harness.vocabulary.visible import visible

EXIT_PASSED = 0
EXIT_FINDINGS = 1
EXIT_INTERRUPTED = 2
EXIT_INTERNAL = 3
EXIT_USAGE = 4
EXIT_NOTHING_RAN = 5

# Nobody reads on after a hundred problems of a file.
SHOWN_PROBLEMS = 100


class HarnessError(Exception):
    """The root of the tree; raised itself for a fault of the harness."""

    exit_code: ClassVar[int] = EXIT_INTERNAL


class UsageError(HarnessError):
    """The request cannot be carried out as written."""

    exit_code = EXIT_USAGE


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong in a file: where (1-based line and column), at which key path, and what would be right."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        path = f"{self.path}: " if self.path else ""
        return visible(f"{self.file}:{self.line}:{self.column}: {path}{self.message}")


class CaseFileError(UsageError):
    """One or more problems in YAML files, all of them at once, in file order."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = tuple(sorted(problems))
        by_file: dict[str, list[Problem]] = {}
        for problem in self.problems:
            by_file.setdefault(problem.file, []).append(problem)
        super().__init__("\n".join(line for file, own in by_file.items() for line in self._lines(file, own)))

    @staticmethod
    def _lines(file: str, own: Sequence[Problem]) -> Iterator[str]:
        yield from map(str, own[:SHOWN_PROBLEMS])
        if len(own) > SHOWN_PROBLEMS:
            yield f"{file}: more than {SHOWN_PROBLEMS} problems; these are {SHOWN_PROBLEMS} of them"


class UnknownName(UsageError):
    """A name that is not in its table."""

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        self.kind, self.name, self.known = kind, name, tuple(known)
        article = "an" if kind[0] in "aeiou" else "a"
        super().__init__(f"{name!r} is not {article} {kind}; {suggest(name, self.known)}")


class PromptError(UsageError):
    """A prompt that cannot be run: empty, text without a tokenizer, or a token id outside the vocabulary."""


class SnapshotUnreadable(UsageError):
    """A file that is no snapshot of this version; `schema` is the version of a snapshot that it names, if any."""

    def __init__(self, file: Path, reason: str, schema: str | None = None):
        self.file, self.reason, self.schema = file, reason, schema
        super().__init__(f"{file} cannot be read as a snapshot ({reason})")


class ModelUnavailable(HarnessError):
    """The model is not on this machine and may not be fetched; the text says how to get it."""

    exit_code = EXIT_NOTHING_RAN


class EngineUnavailable(HarnessError):
    """The engine is not installed, or does not claim to do what is asked; the text says which."""

    exit_code = EXIT_NOTHING_RAN


class Unsupported(EngineUnavailable):
    """Raised by an adapter, `harness.Unsupported("why")`: its engine does not do what is asked.

    What was refused is skipped with the reason, and listed. It fails where it was declared, where a value of it is
    stated, and where a snapshot of it is stored.
    """


class DoesNotApply(HarnessError):
    """A law has nothing to say about this engine, model or question; the text says why."""

    exit_code = EXIT_NOTHING_RAN


class NothingToRun(HarnessError):
    """The request is right and leaves nothing to do; that must never read as a pass."""

    exit_code = EXIT_NOTHING_RAN


class DeviceUnavailable(NothingToRun):
    """MLX runs on another device than the one that is required."""


class TapError(HarnessError):
    """An interception did not fire as often as its recording, or met a model that is already tapped."""


class SnapshotRefused(HarnessError):
    """A value that must never be stored in a snapshot, such as NaN."""

    exit_code = EXIT_FINDINGS


MOST_SAID = 64_000
"""Characters of an exception's text that are kept: somebody's exception may hold a whole array."""


def described(error: BaseException) -> str:
    """Return `ValueError: its text`, or the name alone where there is no text or making it raises."""
    name = type(error).__name__
    try:
        text = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as second:  # noqa: BLE001  the exception is somebody's, and so is its __str__
        text = f"(its text cannot be made: {type(second).__name__})"
    if len(text) > MOST_SAID:
        text = f"{text[:MOST_SAID]} (and {len(text) - MOST_SAID:,} more characters)"
    return f"{name}: {text}" if text else name


_LATE = "[METAL]"
"""How MLX marks an error of Metal's command buffers: `[METAL] Command buffer execution failed: Insufficient Memory`."""


def device_failure(error: BaseException) -> str:
    """Return the text of the device's own failure, where an exception or its innermost cause is one, or nothing.

    Metal fails late: the evaluation at fault returns zeros, and a later call raises the error (ml-explore/mlx#3523).
    So the code that raised it is not at fault, and numbers from before it may be wrong. `[metal::malloc]` is raised at
    once, to whoever asked for the memory, and is that caller's own error.
    """
    said = [described(each) for each in _chain(error)]
    return next((text for text in reversed(said) if _LATE in text), "")


def described_at(error: BaseException) -> str:
    """Return `ValueError: its text (mylib/patch.py:12)`: what was raised in somebody's code, and its last own line."""
    place = next((found for each in _chain(error) if (found := _own_place(each))), "")
    return f"{described(error)} ({place})" if place else described(error)


def traceback_of(error: BaseException) -> str:
    """Return the whole traceback, with its notes; the end of it where it is very long."""
    return "".join(traceback.format_exception(error))[-MOST_SAID:]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, and those that it was raised from, or while handling."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


_HARNESS = str(Path(__file__).parents[1])
_STANDARD = sysconfig.get_path("stdlib")
_INSTALLED = re.compile(r".*[/\\](?:site|dist)-packages[/\\](.*)")
_LIBRARIES = ("mlx", "mlx_lm", "numpy", "torch", "transformers", "tokenizers", "pytest", "_pytest")
"""Installed packages whose frames are nobody's own; another installed one may be the engine."""


def _own_place(error: BaseException) -> str:
    """Return file:line of the last frame of an exception that is in somebody's own code, or nothing.

    What is installed counts only where all of it is: then the engine is a package.
    """
    own, installed = "", ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if found := _INSTALLED.match(file):
            if re.split(r"[/\\.]", found[1])[0] not in _LIBRARIES:
                installed = f"{found[1]}:{line}"
        elif not file.startswith(("<", _HARNESS + os.sep, _STANDARD + os.sep)):
            own = f"{near(file)}:{line}"
    return own or installed


_MANY = 20
"""Names that are listed where none is near what was typed; of more, three."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for the nearest known name; when none is near, all of them or, of many, three."""
    options = sorted({*map(str, known)} - {name})
    closest = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    if closest:
        return f"did you mean {closest[0]!r}?"
    if len(options) > _MANY:
        nearest = difflib.get_close_matches(name, options, n=3, cutoff=0.0)
        return f"there are {len(options)}, such as {', '.join(nearest)}"
    return f"known: {', '.join(options)}" if options else "there are none"
