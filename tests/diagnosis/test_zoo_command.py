"""`harness zoo` lists the faults, runs them, and says in its exit code whether all were named."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from fabricated import at, right

from harness.cli import exit_code_of
from harness.cli.zoo_grids import grids
from harness.diagnosis.zoo import ZOO, clean, models, page, trial
from harness.diagnosis.zoo.dtypes import in_dtypes, rows_of
from harness.diagnosis.zoo.trial import judge

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"


@pytest.fixture
def diagnosing(monkeypatch):
    """Let every planting get a fabricated diagnosis, made by a function of the right one."""

    def by(change):
        def attempt(fault, planting):
            return judge(fault, planting, change(right(fault, planting)))

        monkeypatch.setattr(trial, "attempt", attempt)

    return by


def test_every_fault_is_listed(capsys):
    assert exit_code_of(["zoo", "list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ZOO)


def test_a_list_can_be_narrowed(capsys):
    assert exit_code_of(["zoo", "list", "--only", "F15"]) == 0
    out = capsys.readouterr().out
    assert "quantising swallows a NaN weight" in out
    assert "F14" not in out


@pytest.mark.parametrize("verb", ["list", "run"])
def test_a_fault_that_is_not_there_is_a_usage_error(verb, capsys):
    assert exit_code_of(["zoo", verb, "--only", "F97"]) == 4
    assert "'F97' is not a fault of the zoo; did you mean 'F" in capsys.readouterr().err


def test_a_run_plants_diagnoses_and_writes_what_was_said(capsys, tmp_path):
    file = tmp_path / "zoo.json"
    assert exit_code_of(["zoo", "run", "--only", "F02", "--json", str(file)]) == 0
    assert "5/5" in capsys.readouterr().out
    plantings = json.loads(file.read_text())["plantings"]
    assert [each["architecture"] for each in plantings] == ["arrays", "llama", "qwen3", "gpt2", "gemma2"]
    assert all(each["place"] and each["cause"] and each["evidence"] for each in plantings)


def test_a_diagnoser_that_is_off_by_one_token_is_told_and_fails(capsys, diagnosing):
    diagnosing(lambda said: at(said, token=said.place.token + 1))
    assert exit_code_of(["zoo", "run", "--only", "F13"]) == 1
    out = capsys.readouterr().out
    assert "0/4" in out
    assert "F13 qwen3: place wrong; the clean run, model.layers.1.self_attn.v_proj, token 3" in out


@pytest.fixture
def accusing(monkeypatch):
    """Let sound models be accused in one dtype, or in none, without a diagnosis of any."""

    def in_dtype(dtype):
        accused = lambda subject, diagnose: f"{subject.name}: DIA101 planted" if models._ASKED.get() == dtype else None  # noqa: E731
        monkeypatch.setattr(clean, "examine", accused)

    return in_dtype


def test_a_page_is_written(tmp_path, diagnosing, accusing):
    diagnosing(lambda said: said)
    accusing(None)
    file = tmp_path / "zoo.md"
    assert exit_code_of(["zoo", "run", "--write", str(file)]) == 0
    assert file.read_text() == PAGE.read_text(), "run `harness zoo run --write docs/zoo.md`"


def test_the_page_in_the_documentation_says_that_all_is_named():
    trials = [judge(fault, each, right(fault, each)) for fault in ZOO.values() for each in fault.plantings]
    wide = [judge(fault, each, right(fault, each)) for fault in ZOO.values() for each in in_dtypes(fault)]
    tables = grids([*ZOO.values()], wide, {dtype: (len(clean.twins()), []) for dtype in models.DTYPES})
    assert page.markdown(ZOO, trials, tables) == PAGE.read_text(), "run `harness zoo run --write docs/zoo.md`"


def test_a_fault_that_is_misnamed_in_one_dtype_stands_out_and_fails(capsys, monkeypatch, accusing):
    def attempt(fault, planting):
        said = right(fault, planting)
        return judge(fault, planting, at(said, token=3) if planting.name == "qwen3, bfloat16" else said)

    monkeypatch.setattr(trial, "attempt", attempt)
    accusing("4bit")
    assert exit_code_of(["zoo", "run", "--only", "F13", "--only", "F08", "--dtypes"]) == 1
    seen = capsys.readouterr()
    out = " ".join(seen.out.split())
    assert "F08 [1] 2/2 [1] [1]" in out
    assert "F13 2/2 2/2 1/2 (place) 2/2" in out
    assert "place 2/2 4/4 1/2 2/2" in out
    assert "sound models accused 0/58 0/58 0/58 58/58" in out
    assert "[1] the values leave float16" in out
    assert "F13 qwen3, bfloat16: place wrong" in out
    assert "false alarm: 4bit, llama: DIA101 planted" in seen.err


@pytest.mark.parametrize("dtype", models.DTYPES)
def test_a_zoo_model_is_built_in_the_dtype_that_is_asked(dtype):
    with models.built_in(dtype):
        layer = models.build("llama", "float16").module.model.layers[0].mlp.down_proj
    weight = layer.scales if dtype == "4bit" else layer.weight
    assert (str(weight.dtype), "scales" in layer) == (
        f"mlx.core.{'float32' if dtype == '4bit' else dtype}", dtype == "4bit",
    )  # fmt: skip
    assert str(models.build("llama", "float16").module.model.norm.weight.dtype) == "mlx.core.float16"


def test_every_fault_of_a_model_has_a_form_in_some_dtype_and_a_reason_in_the_others():
    for fault in ZOO.values():
        for variant, cells in rows_of(fault).items():
            assert list(cells) == list(models.DTYPES)
            assert any(isinstance(cell, list) for cell in cells.values()), f"{fault.id} {variant}"
            assert all(cells.values()), f"{fault.id} {variant}"


@pytest.mark.parametrize(("accused", "code"), [(None, 0), ("small: DIA101 planted", 1)], ids=["none", "one"])
def test_clean_models_are_counted_and_an_accusation_fails(accused, code, capsys, monkeypatch, diagnosing):
    diagnosing(lambda said: said)
    monkeypatch.setattr(clean, "subjects", lambda: [SimpleNamespace(name="small"), SimpleNamespace(name="other")])
    monkeypatch.setattr(clean, "examine", lambda subject, diagnose: accused if subject.name == "small" else None)
    assert exit_code_of(["zoo", "run", "--only", "F02", "--clean"]) == code
    seen = capsys.readouterr()
    assert f"models without a fault: {code} of 2 accused" in seen.out
    assert ("false alarm: small: DIA101" in seen.err) == bool(code)
