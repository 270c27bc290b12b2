"""Every code has a page, and every page says what the table says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.vocabulary.errors import UsageError
from harness.vocabulary.findings import FINDINGS
from harness.vocabulary.findings.pages import SECTIONS, Page, folder, page, search

WORD = re.compile(r"[a-z]{5,}")


def test_every_code_has_a_page_and_every_page_a_code():
    assert {file.stem for file in folder().glob("*.md")} == {*FINDINGS, "README"}


@pytest.mark.parametrize("code", FINDINGS)
def test_a_page_has_the_title_of_the_table_and_every_section(code: str):
    found = page(code)
    assert (found.code, found.title) == (code, FINDINGS[code].title)
    assert tuple(found.sections) == SECTIONS
    assert all(len(body) > 40 for body in found.sections.values())


@pytest.mark.parametrize("code", FINDINGS)
def test_a_page_says_what_the_code_is_about_and_what_it_does_to_a_verdict(code: str):
    kind, paragraph = FINDINGS[code], page(code).text.split("\n\n")[1]
    assert f"{kind.severity} about the {kind.subject}:" in paragraph
    assert ("`--strict`" in paragraph) != kind.fails()


@pytest.mark.parametrize("code", FINDINGS)
def test_a_symptom_shows_the_message_as_people_see_it(code: str):
    assert f"{code} {FINDINGS[code].title}" in " ".join(page(code).sections["Symptom"].split())


@pytest.mark.parametrize("code", FINDINGS)
def test_a_page_and_the_hint_speak_of_the_same(code: str):
    """Half of the hint's longer words, so that a page may say it in another way and may not say something else."""
    wanted = set(WORD.findall(FINDINGS[code].hint.lower()))
    said = set(WORD.findall(page(code).text.lower()))
    assert len(wanted & said) * 2 >= len(wanted), wanted - said


def test_the_index_names_every_code_with_its_title():
    index = (folder() / "README.md").read_text(encoding="utf-8")
    for code, kind in FINDINGS.items():
        assert f"| [{code}]({code}.md) | {kind.severity} | {kind.subject} | {kind.title} |" in index


@pytest.mark.parametrize(
    "seen",
    ["!!!!", "<pad>", "<unk>", "fine up to N tokens", "all recoveries nan", "empty plot", "every recovery 0",
     "Baseline distance: inf", "nan%", "bfloat16 fine, float16 not"],
)  # fmt: skip
def test_the_signs_people_report_are_found_and_in_the_index(seen: str):
    assert search(seen, FINDINGS)
    assert seen.split(": ")[0] in (folder() / "README.md").read_text(encoding="utf-8")


PAGES = {
    "AAA001": "## Symptom\n\n`Boom`  at noon\n\n## Cause\n\nPowder and a spark.\n\n## Fix\n\nWater.\n",
    "BBB001": "## Symptom\n\nSmoke\n\n## Cause\n\nA boom at noon before.\n\n## Fix\n\nA spark arrester.\n",
}


@pytest.mark.parametrize(
    ("seen", "codes"),
    [
        ("boom at NOON", ["AAA001"]),
        ("spark", ["AAA001", "BBB001"]),
        ("arrester smoke", ["BBB001"]),
        ("thunder", []),
    ],
    ids=["symptom-first-as-quoted", "anywhere", "all-words", "nothing"],
)
def test_a_search_looks_at_symptoms_first_then_anywhere_then_for_all_words(
    seen: str, codes: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    for code, text in PAGES.items():
        (tmp_path / f"{code}.md").write_text(f"# {code}: title\n\n{text}")
    monkeypatch.setattr("harness.vocabulary.findings.pages.folder", lambda: tmp_path)
    assert [found.code for found in search(seen, PAGES)] == codes


def test_a_page_without_its_shape_has_no_sections():
    assert Page.of("# FIN001: title\nsome text\n").sections == {}
    assert Page.of("").title == ""


def test_a_page_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("harness.vocabulary.findings.pages.folder", lambda: tmp_path)
    with pytest.raises(UsageError, match="no page about FIN001"):
        page("FIN001")
