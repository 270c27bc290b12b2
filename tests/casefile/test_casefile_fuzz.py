"""Whatever the bytes of a file, the outcome is a case or an error of the harness, with places inside the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.casefile import Case, Names, load_cases
from harness.vocabulary.errors import CaseFileError, Problem

SEED = b"""\
models: [tiny, "s*", "tag:big"]
include: common.yaml
engines: [native, legacy]
prompts: {clean: "a b", corrupted: [1, 2], answer: x, wrong: 3}
sweep:
  components: [mlp_out]
  layers: [0, -1]
matrix:
  direction: [noising, denoising]
  pair: {one: {}, two: {prompts: {corrupted: [3, 4]}, skip: why}}
xfail: [{reason: known, engine: legacy, model: "t*"}]
expect:
  finite: [{metric: l2}]
  top_layers: [{layers: [0, -1], among: 3}]
  baselines:
    - {metric: l2, value: 1e-3, within: .5}
  engines:
    legacy: {findings: [ORC001]}
"""
COMMON = b"defaults:\n  tolerance: {recovery_points: 1}\n  prompts: {clean: c}\n"
NAMES = Names({"tiny": ("small",), "second": ("big",)}, ("native", "legacy"))
SYNTAX = rb"""- |: |{|}|[|]|'|"|&a |*a|!!|>|%YAML 1.1|---|...|#|? |~|, """.split(b"|")
WORDS = rb'.nan|1e400|\U00110000|"\ud800"|999999999999999999999999|true|null'.split(b"|")
NAMED = rb"""models|expect|layers|all|include|matrix|../..|common.yaml|*|tag:""".split(b"|")
BYTES = [b"|", b"\n", b"\r", b"  ", b"\t", b"\0", b"\xff", b"\xc2\x85", b"\xef\xbb\xbf"]
PIECES = [*SYNTAX, *WORDS, *NAMED, *BYTES]
# What PyYAML counts as the end of a line.
LINE_ENDS = (b"\n", b"\r", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9")

MUTATIONS = st.lists(
    st.tuples(st.integers(0, len(SEED)), st.integers(0, 12), st.sampled_from(PIECES) | st.binary(max_size=4)),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "common.yaml").write_bytes(COMMON)
    return folder / "fuzz.case.yaml"


def outcome(path: Path, content: bytes) -> list[Case] | tuple[Problem, ...]:
    path.write_bytes(content)
    try:
        return load_cases(path, NAMES)
    except CaseFileError as error:
        return error.problems


def check(path: Path, content: bytes) -> None:
    result = outcome(path, content)
    assert result
    if isinstance(result, list):
        return
    for problem in result:
        assert Path(problem.file).parent == path.parent
        held = content if problem.file == str(path) else COMMON
        assert 1 <= problem.line <= 1 + sum(map(held.count, LINE_ENDS))
        assert 1 <= problem.column <= len(held) + 1
        assert len(str(problem).splitlines()) == 1


def test_the_seed_of_the_mutations_is_four_cases(path: Path) -> None:
    assert [type(case) for case in outcome(path, SEED)] == [Case] * 4


@settings(derandomize=True, deadline=None, database=None, max_examples=200)
@given(content=st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_give_a_case_or_a_located_error(path: Path, content: bytes) -> None:
    check(path, content)


@settings(derandomize=True, deadline=None, database=None, max_examples=200)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=40))
@example([b"{", b": ", b"*a"])
def test_any_pieces_of_yaml_give_a_case_or_a_located_error(path: Path, pieces: list[bytes]) -> None:
    check(path, b"".join(pieces))


def damaged(mutations: list[tuple[int, int, bytes]]) -> bytes:
    content = SEED
    for start, length, piece in mutations:
        content = content[:start] + piece + content[start + length :]
    return content


@settings(derandomize=True, deadline=None, database=None, max_examples=300)
@given(content=MUTATIONS.map(damaged))
def test_any_damage_to_a_case_gives_a_case_or_a_located_error(path: Path, content: bytes) -> None:
    check(path, content)


@pytest.mark.slow
@settings(deadline=None, database=None, max_examples=2000)
@given(content=MUTATIONS.map(damaged) | st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join) | st.binary())
def test_two_thousand_inputs_never_seen_before(path: Path, content: bytes) -> None:
    """Other inputs in every run; hypothesis prints the one that fails, to be kept as an example."""
    check(path, content)
