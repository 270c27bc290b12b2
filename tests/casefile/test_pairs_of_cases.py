"""`prompts:` as a list of pairs or a file of them: what is read, and every fault at its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from harness.casefile import Prompts, load_case, load_cases
from harness.casefile.language.published import case_schema
from harness.casefile.syntax.yamlfile import load_document
from harness.vocabulary.errors import CaseFileError

Read = Callable[..., list[str]]
CASE = Draft202012Validator(case_schema())


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return a function from `prompts` and the text of a file to the problems, without the folder's name."""

    def problems(prompts: str, text: str | bytes = "", name: str = "pairs.jsonl") -> list[str]:
        (tmp_path / "x.case.yaml").write_text(f"models: [tiny]\nprompts: {prompts}\n")
        (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        try:
            load_cases(tmp_path / "x.case.yaml")
        except CaseFileError as error:
            return [str(problem).replace(f"{tmp_path}/", "") for problem in error.problems]
        return []

    return problems


def test_a_list_and_both_kinds_of_file_say_the_same(read: Read, tmp_path: Path) -> None:
    pairs = (Prompts(clean="a b", corrupted="a c", answer=" d", wrong=" e"), Prompts(clean="x", corrupted="y"))
    listed = '[{clean: a b, corrupted: a c, answer: " d", wrong: " e"}, {clean: x, corrupted: y}]'
    lines = '{"clean": "a b", "corrupted": "a c", "answer": " d", "wrong": " e"}\n\n{"clean": "x", "corrupted": "y"}'
    table = "clean,wrong,answer,corrupted\r\na b, e, d,a c\r\n\r\nx,,,y\r\n"
    for given in ((listed,), ("{file: pairs.jsonl}", lines), ("{file: p.csv}", "\ufeff" + table, "p.csv")):
        assert read(*given) == []
        case = load_case(tmp_path / "x.case.yaml")
        assert (case.pairs, case.is_averaged) == (pairs, True)
        assert CASE.is_valid(load_document(tmp_path / "x.case.yaml").data)


def test_one_pair_is_no_mean_and_a_list_of_one_is(read: Read, tmp_path: Path) -> None:
    for prompts, averaged in (("{clean: a, corrupted: b}", False), ("[{clean: a, corrupted: b}]", True)):
        assert read(prompts) == []
        case = load_case(tmp_path / "x.case.yaml")
        assert (case.is_averaged, case.pairs) == (averaged, (Prompts(clean="a", corrupted="b"),))


def test_lines_hold_what_prompts_may_hold(read: Read, tmp_path: Path) -> None:
    told = '{"clean": [1, 2], "corrupted": [1, 3], "answer": 4, "wrong": {"text": " b c", "token": "first"}}\n'
    talk = '{"clean": {"messages": [{"role": "user", "content": "a"}]}, "corrupted": "b", "special_tokens": false}'
    assert read("{file: pairs.jsonl}", told + talk) == []
    one, two = load_case(tmp_path / "x.case.yaml").pairs
    assert (one.clean, one.answer, one.wrong.text, two.special_tokens) == ((1, 2), 4, " b c", False)


def test_a_table_may_break_a_line_inside_quotes_and_later_faults_keep_their_line(read: Read, tmp_path: Path) -> None:
    table = 'clean,corrupted\n"a\nb",c\n,d\n'
    assert read("{file: p.csv}", table, "p.csv") == ["p.csv:4:1: clean: expected text, found empty text"]


ONE = '{"clean": "a", "corrupted": "b"}\n'
FAULTS = [
    ("{file: p.jsonl}", "p.jsonl", "", "p.jsonl:1:1: holds no pair of prompts"),
    ("{file: p.jsonl}", "p.jsonl", "\n \n", "p.jsonl:1:1: holds no pair of prompts"),
    ("{file: p.csv}", "p.csv", "clean,corrupted\n", "p.csv:1:1: holds no pair of prompts"),
    ("{file: p.csv}", "p.csv", "clean,corupted\na,b\n",
     "p.csv:1:1: 'corupted' is not a column; did you mean 'corrupted'?\n"
     "p.csv:1:1: the column 'corrupted' is missing; the first line names the columns"),
    ("{file: p.csv}", "p.csv", "clean,corrupted,clean\na,b,c\n", "p.csv:1:1: the column 'clean' is there twice"),
    ("{file: p.csv}", "p.csv", 'clean,corrupted\na\n"b', "p.csv:2:1: has 1 cell under 2 names\n"
     "p.csv:3:1: is no line of a table: unexpected end of data"),
    ("{file: p.jsonl}", "p.jsonl", f"{ONE}{{\"clean\": \n[1]\n{{\"clean\": \"a\", \"clean\": \"b\"}}\n{ONE}",
     "p.jsonl:2:11: is not JSON: Expecting value; one pair a line\n"
     "p.jsonl:3:1: expected a mapping, found a list\n"
     "p.jsonl:4:1: is not a pair: 'clean' stands in it twice"),
    ("{file: p.jsonl}", "p.jsonl",
     f'{ONE}{{"clean": "a", "corrupt": "b"}}\n{{"clean": "c", "corrupted": "d", "answer": "e"}}',
     "p.jsonl:2:1: corrupt: is not a field here; did you mean 'corrupted'?\n"
     "p.jsonl:2:1: corrupted: is missing\n"
     "p.jsonl:3:1: answer: 'answer' needs 'wrong' beside it; give both or neither"),
    ("{file: p.jsonl}", "p.jsonl", f'\n{ONE}\n{{"clean": "a"}}', "p.jsonl:4:1: corrupted: is missing"),
    ("{file: p.jsonl}", "p.jsonl", '{"clean": "\\ud800", "corrupted": "b"}',
     "p.jsonl:1:1: holds half a character: one surrogate without the other"),
    ("{file: p.jsonl}", "p.jsonl", "[" * 100_000, "p.jsonl:1:1: is not a pair: "),
    ("{file: p.jsonl}", "p.jsonl", ONE + ONE.replace(" ", ""),
     "p.jsonl:2:1: is pair 1 once more, which would count twice in the mean"),
    ("[{clean: a, corrupted: b}, {clean: a, corrupted: b}]", "-", "",
     "x.case.yaml:2:37: prompts[1]: is pair 1 once more, which would count twice in the mean"),
    ("[{clean: a, corrupted: b}, {clean: a}]", "-", "", "x.case.yaml:2:37: prompts[1].corrupted: is missing"),
    ("[]", "-", "", "x.case.yaml:2:10: prompts: at least one entry is needed"),
    ("{file: 3}", "-", "", "x.case.yaml:2:17: prompts.file: expected text, found the number 3; put it in quotes"),
    ("{file: p.jsonl, clean: a}", "p.jsonl", ONE,
     "x.case.yaml:2:26: prompts.clean: has no place beside 'file', whose pairs say all of it"),
    ("{file: ../p.jsonl}", "-", "", "x.case.yaml:2:17: prompts.file: '../p.jsonl' leads outside "),
    ("{file: /etc/passwd}", "-", "", "x.case.yaml:2:17: prompts.file: '/etc/passwd' leads outside "),
    ("{file: q.jsonl}", "p.jsonl", ONE,
     "x.case.yaml:2:17: prompts.file: q.jsonl: does not exist; did you mean 'p.jsonl'?"),
    ("{file: p.txt}", "p.txt", ONE, "x.case.yaml:2:17: prompts.file: p.txt: pairs stand in a file that ends in .jsonl"),
]  # fmt: skip


@pytest.mark.parametrize(("prompts", "name", "text", "said"), FAULTS)
def test_every_fault_is_told_in_one_round_at_its_line(
    read: Read, prompts: str, name: str, text: str, said: str
) -> None:
    found = read(prompts, text, name)
    assert len(found) == len(said.split("\n")), found
    for message, wanted in zip(found, said.split("\n"), strict=True):
        assert message.startswith(wanted), found


def test_bytes_that_are_no_text_and_a_link_that_leads_outside(read: Read, tmp_path: Path) -> None:
    assert read("{file: p.csv}", b"clean,corrupted\na,\xff\n", "p.csv")[0].startswith(
        "p.csv:2:3: byte 0xff is not UTF-8"
    )
    (tmp_path / "link.csv").symlink_to(Path(__file__))
    (message,) = read("{file: link.csv}")
    assert "leads outside" in message


def test_the_file_counts_from_the_file_that_names_it_and_a_variant_may_name_another(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "d.yaml").write_text("defaults: {prompts: {file: p.jsonl}}\n")
    (tmp_path / "shared" / "p.jsonl").write_text(ONE)
    (tmp_path / "q.csv").write_text("clean,corrupted\nc,d\n")
    case = tmp_path / "x.case.yaml"
    case.write_text("include: shared/d.yaml\nmodels: [tiny]\n")
    assert load_case(case).pairs[0].clean == "a"
    case.write_text(
        "models: [tiny]\nmatrix: {set: {one: {prompts: {file: shared/p.jsonl}}, two: {prompts: {file: q.csv}}}}\n"
    )
    assert [each.pairs[0].clean for each in load_cases(case)] == ["a", "c"]


def test_what_the_loader_refuses_of_pairs_the_schema_refuses() -> None:
    for prompts in ([], [{"clean": "a"}], {"file": 3}, {"file": "a.csv", "clean": "b"}, "a", [{"file": "a.csv"}]):
        assert not CASE.is_valid({"models": ["tiny"], "prompts": prompts}), prompts
