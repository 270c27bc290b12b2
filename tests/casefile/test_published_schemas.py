"""The published JSON Schemas: they take what the loader takes, and refuse what it refuses as far as they can."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from harness.casefile import find_cases, load_cases
from harness.casefile.language.published import case_schema, defaults_schema
from harness.casefile.syntax.yamlfile import load_document
from harness.models import table

Problems = Callable[..., list[str]]
ROOT = Path(__file__).parents[2]
BUNDLED = find_cases([ROOT / "cases"])
CASE = Draft202012Validator(case_schema())


def read(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "x.case.yaml"
    file.write_text(text)
    return load_document(file).data


@pytest.mark.parametrize(
    "schema", [case_schema(), defaults_schema(), table.schema()], ids=["case", "defaults", "models"]
)
def test_a_schema_is_one(schema: Any) -> None:
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("file", BUNDLED, ids=lambda file: file.name.partition(".")[0])
def test_a_bundled_case_is_valid_and_names_the_schema_to_editors(file: Path) -> None:
    assert [error.message for error in CASE.iter_errors(load_document(file).data)] == []
    (named,) = re.findall(r"\A# yaml-language-server: \$schema=(\S+)\n", file.read_text())
    assert (file.parent / named).resolve() == ROOT / "docs" / "case.schema.json"


def test_the_bundled_table_of_models_is_valid() -> None:
    errors = Draft202012Validator(table.schema()).iter_errors(load_document(table.BUNDLED).data)
    assert [error.message for error in errors] == []


EVERY_KEY = """\
include: common.yaml
id: all
models: ["qwen3-*", "tag:moe", tiny]
reference: published
precision: true
matrix:
  components: [mlp_out, attn_out]
  direction: [noising, denoising]
  pair:
    one: {prompts: {corrupted: b}, expect: {finite: true}}
skip: why
xfail: [{reason: known, engine: native, model: "qwen3-*", backend: metal}]
expect:
  finite: [{metric: l2}]
  baseline_range: [{metric: l2, at_least: 1}]
  top_layers: [{layers: [0], among: 2}]
  minimum_recovery: [{at_least: 5.5}]
  rank_order: [{layers: [1, 0], component: mlp_out}]
"""
COMMON = "defaults: {prompts: {clean: a}, tolerance: {recovery_points: 1}}\n"


EVERY_PROMPT = """\
models: [tiny]
prompts:
  clean: {messages: [{role: system, content: ""}, {role: user, content: a}]}
  corrupted: b
  answer: {text: " c", token: first}
  wrong: 5
  special_tokens: false
matrix:
  pair:
    ids: {prompts: {clean: [1, 2], corrupted: c, answer: d}}
    text: {prompts: {clean: a, special_tokens: true}}
"""


def test_every_kind_of_prompt_and_answer_is_valid_for_both(tmp_path: Path) -> None:
    assert [error.message for error in CASE.iter_errors(read(tmp_path, EVERY_PROMPT))] == []
    ids, text = (case.prompts for case in load_cases(tmp_path / "x.case.yaml"))
    assert (ids.clean, ids.answer, ids.special_tokens) == ((1, 2), "d", False)
    assert (text.clean, text.answer.text, text.special_tokens) == ("a", " c", True)
    for wrong in ("{text: a}", "{text: a, token: last}", "[1]"):
        (tmp_path / "x.case.yaml").write_text(EVERY_PROMPT.replace("wrong: 5", f"wrong: {wrong}"))
        assert [*CASE.iter_errors(load_document(tmp_path / "x.case.yaml").data)]


def test_a_case_with_every_key_is_valid_for_both(tmp_path: Path) -> None:
    (tmp_path / "common.yaml").write_text(COMMON)
    assert [error.message for error in CASE.iter_errors(read(tmp_path, EVERY_KEY))] == []
    assert len(load_cases(tmp_path / "x.case.yaml")) == 4
    defaults = Draft202012Validator(defaults_schema())
    assert [error.message for error in defaults.iter_errors(load_document(tmp_path / "common.yaml").data)] == []


@pytest.mark.parametrize(
    "extra",
    [
        "metric: [l2]",
        "models: []",
        "id: A",
        "id: a/../b",
        "tags: [a, a]",
        "engines: ['a b']",
        "metrics: [l3]",
        "metrics: l2",
        "checks: [oracel]",
        "sweep:",
        "sweep: {direction: up}",
        "sweep: {layers: al}",
        "sweep: {layers: 3}",
        "sweep: {layers: [0, 0]}",
        "sweep: {layers: [1.5]}",
        "sweep: {positions: lats}",
        "sweep: {components: []}",
        "sweep: {components: [mlp out]}",
        "tolerance: {recovery_points: -1}",
        "tolerance: {recovery_points: '1'}",
        "tolerance: {recovery: 1}",
        "precision: 1",
        "reference: [native]",
        "skip: 5",
        "skip: ''",
        "xfail: [{engine: native}]",
        "xfail: [{reason: a, backend: gpu}]",
        "include: 5",
        "matrix: []",
        "matrix: {}",
        "matrix: {components: 5}",
        "matrix: {components: []}",
        "matrix: {pair: {}}",
        "matrix: {pair: {one: {metrics: [l3]}}}",
        "matrix: {pair: {one: {id: a}}}",
        "matrix: {pair: {One: {}}}",
        "expect: {findings: [ORC01]}",
        "expect: {findings: [EXP001]}",
        "expect: {baselines: [{metric: l2, value: 1}]}",
        "expect: {finite: 1}",
        "expect: {top_layers: [{layers: []}]}",
        "expect: {top_layers: [{layers: [0], among: 0}]}",
        "expect: {rank_order: [{layers: [0]}]}",
        "expect: {minimum_recovery: [{layer: 0}]}",
        "expect: {engines: {native: {finding: []}}}",
    ],
)
def test_what_the_loader_refuses_the_schema_refuses(
    tmp_path: Path, problems: Problems, minimal: str, extra: str
) -> None:
    text = (
        "\n".join(line for line in minimal.splitlines() if line.split(":")[0] != extra.split(":")[0]) + f"\n{extra}\n"
    )
    assert problems(text, load_cases)
    assert not CASE.is_valid(read(tmp_path, text))


@pytest.mark.parametrize(
    "text", ["models: [a]", "models: [a]\nprompts: {clean: b}", "prompts: {clean: a, corrupted: b}"]
)
def test_what_a_case_lacks_is_an_error_unless_it_includes_it(tmp_path: Path, text: str) -> None:
    assert not CASE.is_valid(read(tmp_path, text))
    assert CASE.is_valid(read(tmp_path, f"{text}\ninclude: common.yaml"))


@pytest.mark.parametrize(
    "text", ["{}", "defaults: 5", "defaults: {id: a}", "defaults: {metrics: [l3]}", "metrics: [l2]"]
)
def test_what_a_file_of_defaults_may_not_say(tmp_path: Path, text: str) -> None:
    assert not Draft202012Validator(defaults_schema()).is_valid(read(tmp_path, text))
