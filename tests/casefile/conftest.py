"""What the tests of case files share: a minimal case, and every problem of a file as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.casefile import load_case
from harness.vocabulary.errors import CaseFileError

MINIMAL = """\
models: [tiny]
prompts:
  clean: "a b"
  corrupted: "a c"
"""


@pytest.fixture
def minimal() -> str:
    return MINIMAL


@pytest.fixture
def problems(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function from the text of a file to the problems in it, without the folder's name."""

    def problems_of(text: str | bytes, load: Callable[[Path], Any] = load_case) -> list[str]:
        path = tmp_path / "x.case.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        with pytest.raises(CaseFileError) as error:
            load(path)
        return [str(problem).removeprefix(f"{tmp_path}/") for problem in error.value.problems]

    return problems_of
