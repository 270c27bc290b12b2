"""The fenced blocks of a Markdown page, with what an HTML comment above one says about it.

    <!-- file: cases/a.case.yaml -->   the block is this file; a reader saves it
    <!-- exit: 1 -->                   the commands end with this code, and not with 0
    <!-- output -->                    these lines come out of the commands above, in this order; `...` is anything
    <!-- needs: diagnose -->           only where the command line has this command
    <!-- not run: REASON -->           nothing can run it here

Comments are invisible where the page is read, and the page stays plain Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

BLOCK = re.compile(r"((?:^<!-- [^\n]* -->\n+)*)^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"^<!-- ([a-z ]+?)(?:: ?(.*?))? -->$", re.MULTILINE)
MARKS = ("file", "exit", "output", "needs", "not run")
COMMANDS = ("sh", "console")


@dataclass(frozen=True)
class Block:
    """One block: its language, its text, its marks, and the line (1-based) where its text begins."""

    language: str
    body: str
    marks: Mapping[str, str]
    line: int

    @property
    def is_commands(self) -> bool:
        return self.language in COMMANDS

    @property
    def exists_here(self) -> bool:
        """Whether the command line has every command that the block needs."""
        from harness.cli import COMMANDS as KNOWN

        return all(word in KNOWN for word in self.marks.get("needs", "").split())

    def wrong_marks(self) -> Iterator[str]:
        """Yield what is wrong with the block's marks."""
        yield from (f"`{name}` is no mark; there are {', '.join(MARKS)}" for name in self.marks if name not in MARKS)
        yield from (f"`{name}` says nothing" for name in ("file", "needs", "not run") if self.marks.get(name) == "")


def blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of a page, in its order."""
    for found in BLOCK.finditer(text):
        marks = {name: value for name, value in MARK.findall(found[1]) if value or name in MARKS}
        yield Block(found[2], found[3], marks, text.count("\n", 0, found.start(3)) + 1)
