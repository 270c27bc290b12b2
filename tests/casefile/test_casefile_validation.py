"""`load_yaml_as` over models that are not cases: unions by tag, keys that are numbers, and names of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from harness.casefile import load_yaml_as
from harness.models.spec import ModelRow
from harness.vocabulary.errors import CaseFileError

Problems = Callable[..., list[str]]


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Table(Strict):
    models: tuple[ModelRow, ...]


class Odd(Strict):
    half: float | None = None
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    pair: Annotated[tuple[int, ...], Field(min_length=2, max_length=3)] = (1, 2)
    flag: bool = False
    by_layer: dict[int, float] = Field(default_factory=dict)
    free: dict[str, Any] = Field(default_factory=dict)
    inner: Inner | None = None
    mode: Literal["fast", "slow"] = "fast"
    code: Annotated[str, Field(pattern="^[A-Z]+$")] = "A"
    even: Annotated[int, Field(multiple_of=2)] = 2


class Inner(Strict):
    name: str


TABLE = partial(load_yaml_as, TypeAdapter(Table))
ODD = partial(load_yaml_as, TypeAdapter(Odd))


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        pytest.param(
            "models:\n  - id: a\n    source: grondtruth\n",
            ["x.case.yaml:3:13: models[0].source: 'grondtruth' is not a source; did you mean 'groundtruth'?"],
            id="unknown tag",
        ),
        pytest.param(
            "models:\n  - id: a\n", ["x.case.yaml:2:5: models[0].source: is missing"], id="no tag"
        ),
        pytest.param(
            "models:\n  - {id: a, source: groundtruth, kind: dail}\n",
            ["x.case.yaml:2:40: models[0].kind: 'dail' is not a kind; did you mean 'dial'?"],
            id="unknown tag of an inner union",
        ),
        pytest.param(
            "models:\n  - {id: a, source: groundtruth}\n",
            ["x.case.yaml:2:5: models[0].kind: is missing"],
            id="no tag of an inner union",
        ),
        pytest.param(
            "models:\n  - {id: a, source: 5}\n",
            [
                "x.case.yaml:2:21: models[0].source: the number 5 is not a source; "
                "known: groundtruth, hub, path, synthetic, wheel"
            ],
            id="tag of another type",
        ),
        pytest.param(
            "models:\n  - {id: a, source: path, dtype: float61}\n",
            [
                "x.case.yaml:2:5: models[0].path: is missing",
                "x.case.yaml:2:34: models[0].dtype: 'float61' is not a dtype; did you mean 'float16'?",
            ],
            id="a tag named like a missing field",
        ),
        pytest.param(
            "models:\n  - {source: path, path: 5, dytpe: float16}\n",
            [
                "x.case.yaml:2:5: models[0].id: is missing",
                "x.case.yaml:2:26: models[0].path: expected text, found the number 5; put it in quotes",
                "x.case.yaml:2:29: models[0].dytpe: is not a field here; did you mean 'dtype'?",
            ],
            id="a tag named like a written field",
        ),
        pytest.param(
            "models:\n  - {id: a, source: synthetic, architecture: llama, vocba: 16, weights: [1]}\n",
            [
                "x.case.yaml:2:5: models[0].vocab: is missing",
                "x.case.yaml:2:53: models[0].vocba: is not a field here; did you mean 'vocab'?",
                "x.case.yaml:2:64: models[0].weights: is not a field here; known: about, architecture, config, dtype, "
                "id, layers, logit_scale, quantize, seed, source, tags, tokenizer, vocab",
            ],
            id="only the fields of the chosen alternative are offered",
        ),
        pytest.param(
            "models:\n  - [id]\n  - 5\n",
            [
                "x.case.yaml:2:5: models[0]: expected a mapping, found a list",
                "x.case.yaml:3:5: models[1]: expected a mapping, found the number 5",
            ],
            id="rows that are no mappings",
        ),
        pytest.param(
            "models:\n  - {id: a, source: groundtruth, kind: circuit, architecture: llama, vocab: 64, layers: 2,\n"
            "     attention_layer: 2, factors: {2: 1}}\n",
            ["x.case.yaml:2:5: models[0]: attention_layer: 2 does not exist in 2 layers"],
            id="a rule between fields in its own words",
        ),
        pytest.param("models: {}\n", ["x.case.yaml:1:9: models: expected a list, found a mapping"], id="no list"),
        pytest.param("rows: []\n", [
            "x.case.yaml:1:1: models: is missing",
            "x.case.yaml:1:1: rows: is not a field here; known: models",
        ], id="another root"),
    ],
)  # fmt: skip
def test_a_wrong_row_of_a_model_table_is_named_where_it_stands(
    problems: Problems, text: str, messages: list[str]
) -> None:
    assert problems(text, TABLE) == messages


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("half: '1'", "1:7: half: expected a number, found the text '1'"),
        ("half: true", "1:7: half: expected a number, found true"),
        ("share: 1", "1:8: share: expected a number below 1, found 1"),
        ("share: 0", "1:8: share: expected a number above 0, found 0"),
        ("share:", "1:7: share: expected a number, found nothing"),
        ("pair: [1]", "1:7: pair: at least 2 entries are needed"),
        ("pair: [1, 2, 3, 4]", "1:7: pair: at most 3 entries are allowed"),
        ("pair: [1, 2.0]", "1:11: pair[1]: expected a whole number, found the number 2.0"),
        ("pair: [1, true]", "1:11: pair[1]: expected a whole number, found true"),
        ("pair: [1, 0o14]", "1:11: pair[1]: expected a whole number, found the text '0o14'"),
        ("flag: yes", "1:7: flag: expected true or false, found the text 'yes'"),
        ("flag: 1", "1:7: flag: expected true or false, found the number 1"),
        ("by_layer: {a: 1}", "1:12: by_layer.a: as a key here, expected a whole number, found the text 'a'"),
        ("by_layer: {4: x}", "1:15: by_layer.4: expected a number, found the text 'x'"),
        ("by_layer: [1]", "1:11: by_layer: expected a mapping, found a list"),
        ("inner: {nam: x, name: y}", "1:9: inner.nam: is not a field here; did you mean 'name'?"),
        ("inner: {name: no, 3: y}", "1:19: inner.3: is not a field here; known: name"),
        ("mode: fats", "1:7: mode: 'fats' is not a mode; did you mean 'fast'?"),
        ("code: a", "1:7: code: expected text that matches ^[A-Z]+$, found 'a'"),
        ("even: 3", "1:7: even: Input should be a multiple of 2, found the number 3"),
        ('"a\\nb\\e[31m": 1', "1:1: 'a\\nb\\x1b[31m': is not a field here; known: "),
    ],
)
def test_a_wrong_value_is_named_in_words(problems: Problems, text: str, message: str) -> None:
    (found,) = problems(text, ODD)
    assert found.startswith(f"x.case.yaml:{message}")
    assert len(found.splitlines()) == 1


def test_whole_numbers_are_keys_where_the_model_wants_them(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text("by_layer: {4: .75, 6: 1, -1: 1e-3}\nfree: {deep: [1, {no: off}]}\nhalf: 1\n")
    odd = load_yaml_as(TypeAdapter(Odd), path)
    assert odd.by_layer == {4: 0.75, 6: 1.0, -1: 0.001}
    assert odd.free == {"deep": [1, {"no": "off"}]}
    assert odd.half == 1.0


def test_a_model_table_loads(tmp_path: Path) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(
        "models:\n"
        "  - {id: c, source: groundtruth, kind: circuit, architecture: qwen3, vocab: 64, layers: 10,\n"
        "     attention_layer: 2, factors: {4: 0.75, 6: 0.5, 9: -0.25}}\n"
        "  - {id: h, source: hub, repo: a/b, revision: '0123'}\n"
    )
    circuit, hub = load_yaml_as(TypeAdapter(Table), path).models
    assert circuit.factors == {4: 0.75, 6: 0.5, 9: -0.25}
    assert hub.revision == "0123"


@pytest.mark.parametrize(
    "text", ["pair: [" + "x, " * 500 + "1]", "pair: [" + ".nan, " * 500 + "1]", "{" + "k: 1, " * 500 + "}"]
)
def test_a_hundred_problems_are_listed_and_a_line_says_that_there_are_more(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(CaseFileError) as error:
        ODD(path)
    *listed, last = str(error.value).splitlines()
    assert len(listed) == 100
    assert last == f"{path}: more than 100 problems; these are 100 of them"
