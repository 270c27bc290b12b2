"""The pages that explain findings: `docs/findings/CODE.md`, which travel in the wheel.

Each has the shape of a good answer to a bug report: what people see, where it comes from, what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.vocabulary.errors import UsageError

SECTIONS = ("Symptom", "Cause", "Fix")
_PACKAGE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Page:
    """One page: its code and title, its sections by name, and the whole text in Markdown."""

    code: str
    title: str
    sections: dict[str, str]
    text: str

    @classmethod
    def of(cls, text: str) -> Page:
        """Read a page; one that has not the shape of a page has no title or lacks sections."""
        heading, _, rest = text.partition("\n")
        code, _, title = heading.removeprefix("# ").partition(": ")
        parts = re.split(r"^## (.*)$", rest, flags=re.MULTILINE)[1:]
        sections = {name.strip(): body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}
        return cls(code, title, sections, text)


def folder() -> Path:
    """Return where the pages are: in the installed package, or in the checkout that it runs from."""
    installed = _PACKAGE / "bundled" / "findings"
    return installed if installed.is_dir() else _PACKAGE.parent / "docs" / "findings"


def page(code: str) -> Page:
    """Return the page of a code. Raises UsageError when there is none."""
    try:
        return Page.of((folder() / f"{code}.md").read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"there is no page about {code}: {error}") from error


def search(seen: str, codes: Iterable[str]) -> list[Page]:
    """Return the pages among those of `codes` that fit what was seen, the most likely first.

    A page fits whose symptom holds the words as they are; if none does, those that hold them anywhere; if none does,
    those that hold each of them. The likeliest has them in its title, then earliest in its symptom.
    """
    wanted, pages = _plain(seen), [page(code) for code in codes]
    in_symptom = [each for each in pages if wanted in _plain(each.sections.get("Symptom", ""))]
    anywhere = [each for each in pages if wanted in _plain(each.text)]
    words = wanted.split()
    found = in_symptom or anywhere or [each for each in pages if all(word in _plain(each.text) for word in words)]
    return sorted(found, key=lambda each: _rank(each, wanted))


def _rank(page: Page, wanted: str) -> tuple[bool, float]:
    symptom = _plain(page.sections.get("Symptom", ""))
    at = symptom.find(wanted)
    return wanted not in _plain(page.title), at / len(symptom) if at >= 0 else 1.0


def _plain(text: str) -> str:
    """Return text without the differences that do not matter when people quote what they saw."""
    return " ".join(text.lower().replace("`", "").split())
