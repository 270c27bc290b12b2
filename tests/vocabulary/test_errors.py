"""What an error suggests."""

from __future__ import annotations

import re
from pathlib import Path

import harness
from harness.vocabulary.errors import suggest


def test_the_nearest_name_is_suggested_and_never_the_wrong_one_itself() -> None:
    assert suggest("dial-m*e", ["dial-m*e", "dial-mean10-f32"]) == "did you mean 'dial-mean10-f32'?"
    assert suggest("x", ["x"]) == "there are none"


def test_the_text_of_an_exception_is_made_in_one_place() -> None:
    """`described` keeps it short, and survives one that cannot be made; whoever writes it out again does neither."""
    package = Path(harness.__file__).parent
    again = re.compile(r"\{type\((\w+)\)\.__name__\}: \{\1\}")
    assert [file.name for file in package.rglob("*.py") if again.search(file.read_text(encoding="utf-8"))] == []
