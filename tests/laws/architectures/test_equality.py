"""The equality matrix: its cells are figures or reasons, it can be red, and the page in docs/ is what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness import intercept
from harness.laws.architectures.equality import ABSENT, COMPONENTS, DTYPES, cells_of, row_of
from harness.laws.architectures.equality_page import EQUALITY
from harness.laws.architectures.kind import FAIL
from harness.metrics.tolerances import Work, row_tolerance
from harness.models.sources import miniatures
from harness.models.sources.miniatures.reasons import REASONS
from harness.patching import walker
from harness.results.reports import markdown

PAGE = Path(__file__).parents[3] / "docs" / "equality.md"
KERNELS = pytest.mark.as_installed("its code takes Metal's own kernels where MLX has a GPU")
STEPWISE = [name for name, columns in REASONS.items() if "one-pass" in columns]


@pytest.mark.parametrize(
    ("architecture", "dtype"),
    [("llama", "float32"), ("llama", "float16"), ("llama", "bfloat16"), ("qwen3_next", "float32"),
     ("gemma2", "float32"), ("olmoe", "float32"), ("longcat_flash", "float32"),
     pytest.param("rwkv7", "float32", marks=KERNELS)],
)  # fmt: skip
def test_every_component_is_equal_on_architectures_of_different_shape(architecture: str, dtype: str) -> None:
    cells = cells_of(architecture, dtype)
    assert set(cells) == set(COMPONENTS)
    assert cells["mlp_out"] != ABSENT
    for component, text in cells.items():
        assert text == ABSENT or float(text) <= row_tolerance(Work.OTHER_BATCH, dtype), component


@pytest.mark.parametrize(
    "architecture", [pytest.param(name, marks=KERNELS) if name == "deepseek_v41" else name for name in STEPWISE]
)
def test_what_goes_stepwise_has_its_reason(architecture: str) -> None:
    cells = cells_of(architecture, "float32")
    reason = REASONS[architecture]["one-pass"].text
    assert f"goes stepwise: {reason}" in cells.values()
    assert FAIL not in "".join(cells.values())


def test_a_dtype_that_the_model_does_not_run_in_is_a_reason() -> None:
    cells = cells_of("olmoe", "float16")
    assert set(cells.values()) == {
        "not run in float16: RuntimeError: [GatherMM::eval] Currently only supports float32."
    }


@pytest.mark.parametrize("architecture", ["bitnet", "prism_hadamard_qwen35"])
def test_an_architecture_that_cannot_be_built_has_its_reason(architecture: str) -> None:
    reason = REASONS[architecture]["builds"].text
    assert set(cells_of(architecture, "float32").values()) == {f"not run in float32: {reason}"}


def test_a_wrong_donor_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walker, "SOURCE", 1)
    table = {"llama": row_of("llama", "float32")}
    assert len(EQUALITY.faults(table)) == len(COMPONENTS)
    assert "differs from stepwise by" in EQUALITY.faults(table)[0]


def test_a_fallback_that_nobody_knows_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise walker.OnePassImpossible("planted")

    monkeypatch.setattr(walker.Walker, "run", refuses)
    assert cells_of("llama", "float32")["mlp"] == f"{FAIL}goes stepwise: planted"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_that_does_not_run_for_no_known_reason_is_a_fault(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("planted")

    monkeypatch.setattr(miniatures, "load", refuse)
    assert cells_of("llama", dtype)["mlp"] == f"{FAIL}not run in {dtype}: ValueError: planted"


def test_a_reference_that_cannot_be_patched_for_no_known_reason_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("planted")

    assert FAIL not in "".join(cells_of("iquestloopcoder", "float32").values())
    monkeypatch.setattr(intercept, "replace", refuse)
    assert cells_of("llama", "float32")["mlp"] == f"{FAIL}cannot be patched stepwise: ValueError: planted"


def test_a_patch_that_changes_nothing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.laws.architectures.equality.CLEAN", (3, 7, 12, 200, 6, 9))  # the corrupted prompt
    assert cells_of("llama", "float32")["mlp"] == f"{FAIL}no cell differs from the unpatched run"


@pytest.mark.constrained("mlx-lm")
def test_the_page_shows_no_fault_and_every_architecture_in_every_dtype() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert FAIL not in text
    names = re.findall(r"^\| ([\w.-]+) \|", text, re.MULTILINE)
    assert names == [*["architecture", *miniatures.architectures()] * len(DTYPES)]
    known = {columns["builds"].text for columns in REASONS.values() if "builds" in columns}
    assert set(re.findall(r"^\d+\. not run in float32: (.*)$", text, re.MULTILINE)) <= set(map(markdown.text, known))
    assert set(re.findall(r" \[(\d+)\] ", text)) == set(re.findall(r"^(\d+)\. ", text, re.MULTILINE))


@pytest.mark.slow
def test_the_page_is_what_the_command_says() -> None:
    table = dict(EQUALITY.rows(miniatures.architectures()))
    assert EQUALITY.faults(table) == []
    assert [_exact(line) for line in EQUALITY.page(table, "x").splitlines()] == [
        _exact(line) for line in PAGE.read_text(encoding="utf-8").splitlines()
    ]


def _exact(line: str) -> str:
    """A figure depends on the kernels; whether there is one does not."""
    return "" if line.startswith("Made with ") else re.sub(r"\de[-+]\d\d", "figure", line)
