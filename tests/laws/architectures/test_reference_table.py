"""The reference table: figures or reasons, the upstream defects found, and the page in docs/ is what it says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.laws.architectures.kind import FAIL
from harness.laws.architectures.reference import COLUMNS, COMPONENTS, KNOWN, LOGITS, NOT_RUN, row_of, within
from harness.laws.architectures.reference_page import REFERENCE_TABLE, missing
from harness.vocabulary.errors import EngineUnavailable

PAGE = Path(__file__).parents[3] / "docs" / "reference-table.md"
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="the extra `reference` (torch)")
AGREES = dict.fromkeys(COLUMNS, "1.0e-06")
APART = dict.fromkeys(COLUMNS, "3.0e-01")
NONE = dict.fromkeys(COLUMNS, NOT_RUN) | {LOGITS: "transformers does not build it: no"}


def test_what_is_apart_and_not_known_is_a_fault_and_so_is_what_is_known_and_agrees():
    assert REFERENCE_TABLE.faults({"llama": AGREES, "glm": APART, "olmo": NONE}) == []
    assert REFERENCE_TABLE.faults({"llama": APART}) == [
        f"llama: apart by more than rounding: {', '.join(name for name in COLUMNS if name != 'as saved')}"
    ]
    assert REFERENCE_TABLE.faults({"llama": AGREES | {"mlp_out": "2.0e-02"}}) == [
        "llama: apart by more than rounding: mlp_out"
    ]
    assert REFERENCE_TABLE.faults({"llama": AGREES | {"as saved": "3.0e-01"}}) == []
    assert REFERENCE_TABLE.faults({"deepseek_v32": AGREES | {"mlp_out": "1.0e+01"}}) == []
    assert len(REFERENCE_TABLE.faults({"deepseek_v32": APART})) == 1
    ended = {"llama": dict.fromkeys(COLUMNS, f"{FAIL}the process ended with -9: ")}
    assert len(REFERENCE_TABLE.faults(ended)) == len(COLUMNS)
    assert REFERENCE_TABLE.faults({"glm": AGREES}) == [f"glm: agrees, and is listed: {KNOWN['glm']}"]


def test_the_page_has_a_bold_figure_for_what_is_apart_and_a_number_for_a_reason():
    text = REFERENCE_TABLE.page({"llama": AGREES, "glm": APART, "olmo": NONE}, "these versions", *missing(["plamo"]))
    assert "| llama | 1.0e-06 |" in text
    assert "| glm | **3.0e-01** |" in text
    assert "| olmo | [1] | - |" in text
    assert "1. transformers does not build it: no" in text
    assert "Not in transformers: plamo." in text
    assert f"| **of 2** | **1** |{' **1** |' * (len(COLUMNS) - 1)}" in text


def test_the_stored_page_shows_the_upstream_defects():
    text = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([\w-]+) \| (\S+) \|", text, re.MULTILINE))
    assert {name for name, cell in rows.items() if cell.startswith("**") and name in KNOWN} == set(KNOWN)
    assert {"glm", "gemma", "starcoder2"} <= set(KNOWN)
    agree = [name for name, cell in rows.items() if re.fullmatch(r"\d\.\de-\d\d", cell)]
    assert len(agree) >= 40
    assert re.search(r"^\| qwen2 \| \d\.\de-0\d \| \*\*", text, re.MULTILINE)  # as transformers 5 saves it


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed")
def test_without_torch_the_command_says_how_to_install_it():
    done = CliRunner().invoke(cli, ["models", "reference", "--only", "llama"], standalone_mode=False)
    assert isinstance(done.exception, EngineUnavailable)
    assert "pip install torch transformers" in str(done.exception)


@needs_torch
@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "glm", "gemma", "starcoder2"])
def test_a_row_finds_the_defect_and_leaves_a_right_architecture_alone(architecture):
    cells = row_of(architecture)
    assert {column: within(column, cells[column]) for column in (LOGITS, *COMPONENTS)} == dict.fromkeys(
        (LOGITS, *COMPONENTS), architecture not in KNOWN
    )
    assert REFERENCE_TABLE.faults({architecture: cells}) == []


@needs_torch
@pytest.mark.slow
def test_a_folder_as_transformers_saves_it_has_the_wrong_rope_base():
    cells = row_of("qwen2")
    assert within(LOGITS, cells[LOGITS])
    assert float(cells["as saved"]) > 0.05


@needs_torch
@pytest.mark.slow
def test_keys_are_named_exactly_where_the_figures_are_apart(tmp_path):
    """Two ways to the same answer: what the configuration says is ignored, and what the logits say."""
    from harness.models import saved
    from harness.models.config_keys import ignored_keys

    rows = [[cell.strip(" *") for cell in line.split("|")[1:4]] for line in PAGE.read_text("utf-8").splitlines()]
    asked = 0
    for name, logits, as_saved in (row for row in rows if len(row) == 3 and "e-" in row[1]):
        folder = tmp_path / name
        saved.save(name, folder)
        for figure in (logits if as_saved == "the same folder" else as_saved, logits):
            if figure[:1].isdigit() and name not in ("ernie4_5_moe", "jamba", "nemotron_h"):  # no key says so
                named = [str(found) for found in ignored_keys(folder, 6)]
                assert bool(named) is not within(LOGITS, figure), (name, figure, named)
                asked += 1
            saved.publish(folder)
    assert asked > 70
