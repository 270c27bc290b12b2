"""Strict YAML: what a file that is not one clear document says of itself, and where."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.casefile.syntax.builder import MAX_DEPTH
from harness.casefile.syntax.document import Document
from harness.casefile.syntax.yamlfile import MAX_BYTES, load_document
from harness.vocabulary.errors import CaseFileError, UsageError

Problems = Callable[..., list[str]]


def document(tmp_path: Path, content: str | bytes) -> Document:
    path = tmp_path / "doc.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_document(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1:1: the file is empty"),
        ("# only a comment\n", "1:1: the file is empty"),
        ("---\n", "2:1: the file is empty"),
        ("- a\n", "1:1: expected a mapping, found a list"),
        ("just text", "1:1: expected a mapping, found the text 'just text'"),
        ("a: 1\nb: 2\na: 3\n", "3:1: 'a' is written twice; the first is on line 1"),
        ("m:\n  4: x\n  '4': y\n", "3:3: '4' is written twice; the first is on line 2"),
        ("a: 1\n---\nb: 2\n", "2:1: a second document starts here; a file holds one"),
        ("a: &x 1\nb: *x\n", "1:4: anchors and aliases are not used here; write the value out"),
        ("a: *x\n", "1:4: anchors and aliases are not used here; write the value out"),
        ("a: !!python/object/apply:os.getcwd []", "the tag 'tag:yaml.org,2002:python/object/apply:os.getcwd' is not"),
        ("a: !!str 5\n", "1:4: the tag 'tag:yaml.org,2002:str' is not used here; leave it out"),
        ("a: ! 5\n", "1:4: the tag '!' is not used here; leave it out"),
        ("true: 5\n", "1:1: a key is text or a whole number, not true"),
        ("a: {~: 1}\n", "1:5: a key is text or a whole number, not nothing"),
        ("1.5: 1\n", "1:1: a key is text or a whole number, not the number 1.5"),
        ("? [a]\n: 1\n", "1:3: a key is text or a whole number, not a list"),
        ("a: .nan\n", "1:4: .nan is not a finite number; put it in quotes if it is text"),
        ("a: 1e999\n", "1:4: a number too large for a 64-bit float; put it in quotes if it is text"),
        ('a: "\\ud800"\n', "1:4: this text holds half a surrogate pair; write the character itself"),
        ("a: [1, 2\n", "2:1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: b: c\n", "1:5: not valid YAML: mapping values are not allowed here; put text that contains ': ' in"),
        ("a:\n\t- b\n", "2:1: not valid YAML: found character '\\t' that cannot start any token; indent with spaces"),
        ("a: @b\n", "1:4: not valid YAML: found character '@' that cannot start any token; put text that starts"),
        ('a: "\\UFFFFFFFF"\n', "not valid YAML: an escape or a version is out of range"),
        (f"%YAML {'9' * 5000}.1\n---\na: 1\n", "not valid YAML: an escape or a version is out of range"),
        ("a: x\0y\n", "1:5: the character U+0000 cannot stand in YAML"),
        ("é: 1\r\nb: \x07\r\n", "2:4: the character U+0007 cannot stand in YAML"),
        (b"a: 1\r\nb: \xff\r\n", "2:4: byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"\xef\xbb\xbfa: \xff", "1:4: byte 0xff is not UTF-8; save the file as UTF-8"),
        ("a: 1".encode("utf-16"), "1:1: byte 0xff is not UTF-8; save the file as UTF-8"),
        ("[" * 10_000, f"1:{MAX_DEPTH + 1}: nested deeper than {MAX_DEPTH} levels"),
        ("a: " + "{b: " * 10_000, f"nested deeper than {MAX_DEPTH} levels"),
        ("- " * 10_000, f"nested deeper than {MAX_DEPTH} levels"),
        (bytes(range(256)) * 100, "3:115: byte 0x80 is not UTF-8; save the file as UTF-8"),
        ("x" * (MAX_BYTES + 1), "1:1: larger than 262,144 bytes; this is no case file"),
    ],
    ids=lambda value: ascii(value[:24]),
)
def test_a_file_that_is_not_one_clear_document_says_where(problems: Problems, text: str, message: str) -> None:
    found = problems(text, load_document)
    assert len(found) == 1
    assert message in found[0]
    assert found[0].startswith("x.case.yaml:")


def test_a_yaml_bomb_is_refused_at_its_first_anchor(problems: Problems) -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    assert problems(bomb, load_document) == [
        "x.case.yaml:1:4: anchors and aliases are not used here; write the value out"
    ]


def test_faults_that_leave_the_syntax_intact_are_reported_together(problems: Problems) -> None:
    assert problems("a: .nan\nb: 1\nb: 2\nc: .inf\n", load_document) == [
        "x.case.yaml:1:4: .nan is not a finite number; put it in quotes if it is text",
        "x.case.yaml:3:1: 'b' is written twice; the first is on line 2",
        "x.case.yaml:4:4: .inf is not a finite number; put it in quotes if it is text",
    ]


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"], ids=["plain", "bom"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_marks_and_line_ends_of_windows_change_nothing(tmp_path: Path, prefix: bytes, end: bytes) -> None:
    read = document(tmp_path, prefix + "a: 1\nbé:\n  - x\n  - 日本\n".encode().replace(b"\n", end))
    assert read.data == {"a": 1, "bé": ["x", "日本"]}
    assert read.place(("bé", 1)).value == (4, 5)
    assert read.place(("bé",)).key == (2, 1)
    assert read.place(("bé",)).value == (3, 3)


def test_quoted_words_are_text_and_block_text_keeps_its_lines(tmp_path: Path) -> None:
    read = document(tmp_path, "a: '1'\nb: \"true\"\nc: |\n  one\n  two\nd: no\n4: x\n<<: {a: 2}\n")
    assert read.data == {"a": "1", "b": "true", "c": "one\ntwo\n", "d": "no", "4": "x", "<<": {"a": 2}}


def test_nesting_up_to_the_limit_is_read(tmp_path: Path) -> None:
    inner = MAX_DEPTH - 1
    data = document(tmp_path, "a: " + "[" * inner + "]" * inner).data["a"]
    for _ in range(inner - 1):
        (data,) = data
    assert data == []


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "capital.case.yaml").touch()
    with pytest.raises(UsageError) as error:
        load_document(tmp_path / "capitol.case.yaml")
    assert str(error.value) == f"{tmp_path / 'capitol.case.yaml'}: does not exist; did you mean 'capital.case.yaml'?"


def test_what_is_no_readable_file_is_a_usage_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    with pytest.raises(UsageError, match=r": is a folder; a file is needed here$"):
        load_document(tmp_path)
    with pytest.raises(UsageError, match=r"pipe\.yaml: is not a regular file$"):
        load_document(tmp_path / "pipe.yaml")
    with pytest.raises(UsageError, match=r"loop\.yaml: does not exist"):
        load_document(tmp_path / "loop.yaml")
    with pytest.raises(UsageError, match=r"cannot be read: File name too long|does not exist"):
        load_document(tmp_path / ("x" * 5000))
    with pytest.raises(UsageError, match="does not exist"):
        load_document(tmp_path / "nul\0.yaml")


def test_a_file_that_may_not_be_opened_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").touch()

    def refuse(*_args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UsageError, match=r"a\.yaml: cannot be read: Permission denied$"):
        load_document(tmp_path / "a.yaml")


def test_a_long_value_is_shortened_in_its_message(problems: Problems) -> None:
    (message,) = problems("x" * 5000, load_document)
    assert message == f"x.case.yaml:1:1: expected a mapping, found the text '{'x' * 59}…'"


def test_every_error_is_a_usage_error_with_its_exit_code(tmp_path: Path) -> None:
    with pytest.raises(CaseFileError) as error:
        document(tmp_path, "")
    assert isinstance(error.value, UsageError)
    assert error.value.exit_code == 4
