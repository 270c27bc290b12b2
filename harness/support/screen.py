"""The streams of a command: nothing that is written there acts, on a terminal or on the CI that reads it.

Whoever prints a stranger's text has nothing to remember: characters that act are shown as escapes on their way out, and
no line is a command of GitHub's runner, which takes `::name ...` at the start of one from all that a step prints
(github.com/actions/runner, `ActionCommand.TryParseV2`). A text of several lines is told from ours before: `visible`.
"""

from __future__ import annotations

import codecs
import io
import re
from typing import Any

from harness.vocabulary.visible import escape_of, visible

_BLANK = re.compile(r"(?:\s|\x1b\[[\d;]*m)*")
"""What may stand before a command: the runner trims white space, and we trust no reader with colours either."""
_COMMAND = re.compile(rf"{_BLANK.pattern}:(?=:|\Z)")


class LineGuard:
    """Escapes the first colon of each line that would be a command, in text that comes piece by piece."""

    def __init__(self) -> None:
        self._blank = True
        """Whether the line so far may stand before a command."""

    def __call__(self, text: str) -> str:
        first, *others = text.split("\n")
        done = [self._rest_of_line(first)]
        for line in others:
            self._blank = True
            done.append(self._rest_of_line(line))
        return "\n".join(done)

    def _rest_of_line(self, part: str) -> str:
        if self._blank and (found := _COMMAND.match(part)):
            part = part[: found.end() - 1] + escape_of(":") + part[found.end() :]
        self._blank = self._blank and _BLANK.fullmatch(part) is not None
        return part


_KEPT = "\n\t"
"""What text of ours has: lines, and the tabs in which shells take completions."""


def _unknown(error: UnicodeError) -> tuple[str, int]:
    """Show what the stream's encoding has no letter for, so that JSON stays JSON."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(map(escape_of, error.object[error.start : error.end])), error.end


codecs.register_error("harness.visible", _unknown)


class Screen(io.TextIOWrapper):
    """A stream that shows what acts as escapes; `commands` are ours to the runner."""

    def __init__(self, binary: Any, encoding: str, **named: Any) -> None:
        super().__init__(binary, encoding, "harness.visible", **named)
        self._guard = LineGuard()

    def write(self, text: str) -> int:
        super().write(self._guard(visible(text, _KEPT)))
        return len(text)

    def commands(self, text: str) -> None:
        """Write lines that the runner is meant to obey."""
        super().write(visible(text, _KEPT))

    @property
    def rich_proxied_file(self) -> Styled:
        """Where rich writes in place of this stream: its colours pass, and its texts are shown before."""
        return Styled(self, super().write, self._guard)


class Styled:
    """A stream for our own console, whose texts are visible already: commands of the runner are shown, colours pass."""

    def __init__(self, stream: Any, write: Any = None, guard: LineGuard | None = None) -> None:
        self._stream, self._write, self._guard = stream, write or stream.write, guard or LineGuard()

    def write(self, text: str) -> int:
        self._write(self._guard(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
