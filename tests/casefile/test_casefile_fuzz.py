"""Whatever the bytes of a file, the outcome is a case or an error of the harness, with places inside the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.casefile import Case, load_case
from harness.errors import CaseFileError, Problem

SEED = b"""\
models: [tiny]
engines: [native, legacy]
prompts: {clean: "a b", corrupted: [1, 2], answer: x, wrong: 3}
sweep:
  components: [mlp_out]
  layers: [0, -1]
expect:
  baselines:
    - {metric: l2, value: 1e-3, within: .5}
  engines:
    legacy: {findings: [ORC001]}
"""
SYNTAX = rb"""- |: |{|}|[|]|'|"|&a |*a|!!|>|%YAML 1.1|---|...|#|? |~|, """.split(b"|")
WORDS = rb'.nan|1e400|\U00110000|"\ud800"|999999999999999999999999|true|null|models|expect|layers|all'.split(b"|")
BYTES = [b"|", b"\n", b"\r", b"  ", b"\t", b"\0", b"\xff", b"\xc2\x85", b"\xef\xbb\xbf"]
PIECES = [*SYNTAX, *WORDS, *BYTES]
# What PyYAML counts as the end of a line.
LINE_ENDS = (b"\n", b"\r", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9")

MUTATIONS = st.lists(
    st.tuples(st.integers(0, len(SEED)), st.integers(0, 12), st.sampled_from(PIECES) | st.binary(max_size=4)),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return tmp_path_factory.mktemp("fuzz") / "fuzz.case.yaml"


def outcome(path: Path, content: bytes) -> Case | tuple[Problem, ...]:
    path.write_bytes(content)
    try:
        return load_case(path)
    except CaseFileError as error:
        return error.problems


def check(path: Path, content: bytes) -> None:
    result = outcome(path, content)
    if isinstance(result, Case):
        return
    assert result
    lines = 1 + sum(map(content.count, LINE_ENDS))
    for problem in result:
        assert 1 <= problem.line <= lines
        assert 1 <= problem.column <= len(content) + 1
        assert len(str(problem).splitlines()) == 1


def test_the_seed_of_the_mutations_is_a_case(path: Path) -> None:
    assert isinstance(outcome(path, SEED), Case)


@settings(derandomize=True, deadline=None, database=None, max_examples=200)
@given(content=st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_give_a_case_or_a_located_error(path: Path, content: bytes) -> None:
    check(path, content)


@settings(derandomize=True, deadline=None, database=None, max_examples=200)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=40))
@example([b"{", b": ", b"*a"])
def test_any_pieces_of_yaml_give_a_case_or_a_located_error(path: Path, pieces: list[bytes]) -> None:
    check(path, b"".join(pieces))


@settings(derandomize=True, deadline=None, database=None, max_examples=300)
@given(mutations=MUTATIONS)
def test_any_damage_to_a_case_gives_a_case_or_a_located_error(
    path: Path, mutations: list[tuple[int, int, bytes]]
) -> None:
    content = SEED
    for start, length, piece in mutations:
        content = content[:start] + piece + content[start + length :]
    check(path, content)
