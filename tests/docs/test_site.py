"""The documentation site builds without a warning, and holds what is read from the code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("sphinx", reason="pip install '.[docs]'")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", str(ROOT / "docs"), str(folder)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


def text(site: Path, page: str) -> str:
    return (site / page).read_text(encoding="utf-8")


def test_every_page_is_on_it(site: Path) -> None:
    pages = [page.relative_to(ROOT / "docs").with_suffix(".html") for page in ROOT.glob("docs/**/*.md")]
    assert [str(page) for page in pages if not (site / page).exists()] == []


def test_the_reference_is_what_the_code_says(site: Path) -> None:
    from harness.cli import COMMANDS

    commands, results, api = (text(site, f"reference/{name}.html") for name in ("cli", "results", "api"))
    assert [name for name in COMMANDS if f'id="harness-{name}"' not in commands] == []
    schema = json.loads((ROOT / "docs" / "result.schema.json").read_text(encoding="utf-8"))
    assert [name for name in schema["$defs"] if f'id="schema-{name.lower()}"' not in results] == []
    assert 'id="harness.InterpretableModel.activation_patching"' in api


def test_links_lead_somewhere_and_nothing_comes_from_elsewhere(site: Path) -> None:
    broken = [f"{page.relative_to(site)}: {link}" for page in site.rglob("*.html") for link in dead_links(page)]
    assert broken == []


def dead_links(page: Path) -> Iterator[str]:
    """Yield links to files that are not there, and scripts, styles and pictures of another host."""
    for tag, link in links(page):
        parts = urlsplit(link)
        if parts.scheme in ("http", "https"):
            if tag != "a":
                yield f"{tag} {link}"
        elif parts.path and not parts.scheme and not (page.parent / unquote(parts.path)).exists():
            yield link


def links(page: Path) -> list[tuple[str, str]]:
    reader = _Links()
    reader.feed(page.read_text(encoding="utf-8"))
    return reader.found


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, value) for name, value in attrs if name in ("href", "src") and value]
