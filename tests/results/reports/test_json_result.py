"""The result file: what is written is read back equal, and what is no result is refused with its reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_terminal import FINDING, curve, job, run

from harness.results.json import dump_job, dumps, load_job, read, schema, write
from harness.vocabulary import (
    RESULT_SCHEMA,
    AnswerTokens,
    Direction,
    ModelCard,
    Reading,
    RunResult,
    State,
    Status,
    Sweep,
    Tokens,
)
from harness.vocabulary.errors import UsageError
from harness.vocabulary.findings import FINDINGS


@pytest.fixture
def full() -> RunResult:
    """A result with everything in it that a result can hold."""
    rich = job(
        status=Status.FAILED,
        reason="because",
        about="É, “quotes” and \\ and \n",
        tags=("a", "b"),
        card=ModelCard("tiny", "synthetic", "llama", 4, 2048, "float16", "4bit"),
        clean=Tokens((1, 2), (" Paris", "\ud7ff")),
        corrupted=Tokens((1, 3), (" Rome", "\0")),
        sweep=Sweep(("mlp_out",), (0, -1), Direction.NOISING, (0, 2)),
        answers=AnswerTokens(5, 6),
        suppressed=(7,),
        strategy="stepwise",
        curves=(curve(Reading.of(0.1 + 0.2), Reading.of(-1e-300), Reading.absent(State.INF)),),
        findings=(FINDING, replace(FINDING, expected=True, evidence={"count": 3, "what": [1.5, None, "x"]})),
        timings={"load_s": 0.5},
    )
    return run(rich, job("other"), verdict=Status.FAILED, code=1)


def test_round_trip(full: RunResult, tmp_path: Path) -> None:
    write(full, tmp_path / "r.json")
    assert read(tmp_path / "r.json") == full
    assert dumps(read(tmp_path / "r.json")) == dumps(full)


def test_a_job_crosses_a_process_as_plain_types(full: RunResult) -> None:
    plain = dump_job(full.jobs[0])
    assert json.loads(json.dumps(plain)) == plain
    assert load_job(plain) == full.jobs[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_in_evidence_that_is_not_finite_becomes_null(full: RunResult, tmp_path: Path, value: float) -> None:
    poisoned = replace(full.jobs[0], findings=(replace(FINDING, evidence={"seen": value}),))
    write(run(poisoned), tmp_path / "r.json")
    written = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    assert written["jobs"][0]["findings"][0]["evidence"] == {"seen": None}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", bytes(range(128, 256)), b'{"verdict": "fine"}', b"[" * 100_000, b"9" * 5000],
    ids=["empty", "half", "list", "null", "binary", "wrong", "deep", "digits"],
)
def test_what_is_no_result_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"r\.json is not a result of `harness run --json`"):
        read(tmp_path / "r.json")


def test_a_file_that_is_not_there_and_a_schema_of_another_day(full: RunResult, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.json: does not exist"):
        read(tmp_path / "nothing.json")
    write(replace(full, schema="mlx-patch-harness/result/9"), tmp_path / "r.json")
    with pytest.raises(UsageError, match="result/9"):
        read(tmp_path / "r.json")


SCHEMALESS = "names no schema"
PLACE = r"jobs\.0\.timings\.load_s: "


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('" Paris"', '" Paris", "more"', r"jobs\.0\.clean: Value error, 3 texts of 2 ids"),
        (f',\n "schema": "{RESULT_SCHEMA}"', "", SCHEMALESS),
        ('"load_s": 0.5', '"load_s": NaN', r"expected value at line \d+ column 15"),
        ('"load_s": 0.5', '"load_s": -Infinity', r"invalid number at line \d+ column 16"),
        ('"load_s": 0.5', '"load_s": 1e999', PLACE),
        ('"load_s": 0.5', '"load_s": "nan"', PLACE),
        ('"load_s": 0.5', '"load_s": "Infinity"', PLACE),
        ('"load_s": 0.5', f'"load_s": 1{"0" * 400}', PLACE),
        ('"count": 3', '"count": NaN', r"expected value at line \d+ column "),
        ('"count": 3', r'"count": "\ud800"', r"hex escape at line \d+ column "),
        ('"duration_s": 12.34', '"duration_s": "inf"', "duration_s: "),
        ('"exit_code": 1', f'"exit_code": {"1" * 5000}', "number out of range at line 3"),
    ],
)  # fmt: skip
def test_what_is_no_finite_number_is_refused_at_its_place(
    full: RunResult, tmp_path: Path, old: str, new: str, message: str
) -> None:
    text = dumps(full)
    assert old in text
    (tmp_path / "r.json").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError, match=rf"r\.json is not a result of `harness run --json`: .*{message}"):
        read(tmp_path / "r.json")


def test_the_schema_says_that_it_is_required() -> None:
    assert "schema" in schema()["required"]


def test_a_value_beside_a_state_that_contradicts_it_is_refused(full: RunResult, tmp_path: Path) -> None:
    data = json.loads(dumps(full))
    data["jobs"][0]["curves"][0]["cells"][1]["recovery"]["value"] = 0.0
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match="is not a result"):
        read(tmp_path / "r.json")


def test_the_schema_names_every_field_and_state() -> None:
    published = schema()
    assert set(published["properties"]) == set(RunResult.__dataclass_fields__)
    assert set(published["$defs"]["State"]["enum"]) == {state.value for state in State}
    assert set(published["$defs"]["Status"]["enum"]) == {status.value for status in Status}


@pytest.mark.parametrize("code", FINDINGS)
def test_every_finding_survives_the_trip(code: str) -> None:
    one = job(findings=(replace(FINDING, code=code),))
    assert load_job(dump_job(one)) == one
