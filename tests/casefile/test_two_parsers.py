"""LibYAML reads case files where it reads them as the parser in Python does: data, places, and every refusal."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml

from harness.casefile.syntax import builder
from harness.casefile.syntax.builder import Builder
from harness.vocabulary.errors import CaseFileError

CASES = sorted(Path(__file__).parents[2].glob("cases/*.yaml"))
PIECES = (
    "\n", "  ", ": ", "- ", "'", '"', "#", " #", "|", ">", "[", "]", "{", "}", ",", "?", "&a", "!x", "%", "---\n", "\\",
    "~", "null", ":", "-", "1e-3", "@", "|2\n", ">-\n", "\t", "\u00e9",
)  # fmt: skip

needs_libyaml = pytest.mark.skipif(not builder._FAST, reason="PyYAML was built without LibYAML")


def read(text):
    """Return what comes of a text: its data and places, or what is refused."""
    try:
        document = Builder(Path("x.yaml"), text).document()
    except CaseFileError as error:
        return [str(each) for each in error.problems]
    return document.data, {path: (place.key, place.value) for path, place in document.places.items()}


def changed(text, chance):
    for _ in range(chance.randint(0, 3)):
        start = chance.randrange(len(text) + 1)
        text = text[:start] + chance.choice(PIECES) + text[start + chance.choice((0, 0, 1, 4)) :]
    return text


@needs_libyaml
@pytest.mark.parametrize("seed", range(6))
def test_a_text_is_read_alike_by_either(seed, monkeypatch):
    chance = random.Random(seed)
    texts = [changed(chance.choice(CASES).read_text(encoding="utf-8")[:900], chance) for _ in range(60)]
    fast = [read(text) for text in texts]
    monkeypatch.setattr(builder, "_FAST", None)
    assert fast == [read(text) for text in texts]


@needs_libyaml
@pytest.mark.parametrize(
    "text",
    [
        "a: [b: ,c]",
        "a: >#\n  b\n",
        "a: {b? : 1}",
        "a: '\t'",
        "a: \u00e9\nb: c: d",
        "a:\nb: 1",
        "a: 1\na: 2",
        "",
        "a: *b",
    ],
)
def test_what_the_parsers_read_otherwise_is_read_by_the_one_in_python(text, monkeypatch):
    fast = read(text)
    monkeypatch.setattr(builder, "_FAST", None)
    assert fast == read(text)


@needs_libyaml
def test_most_bundled_cases_are_read_by_libyaml(monkeypatch):
    slowly = []
    original = yaml.SafeLoader
    monkeypatch.setattr(yaml, "SafeLoader", lambda text: slowly.append(text) or original(text))
    for file in CASES:
        read(file.read_text(encoding="utf-8"))
    assert len(slowly) <= len(CASES) / 3
