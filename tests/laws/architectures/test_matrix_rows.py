"""The matrix: architectures of different shape hold in every column, and the page in docs/ is what the command says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.intercept import resolve
from harness.intercept.hookpoints import layers_with
from harness.laws.architectures.kind import FAIL
from harness.laws.architectures.matrix import COLUMNS, MATRIX, PASS, row_of
from harness.laws.grid import processes
from harness.models.architectures import ARCHITECTURES, architecture_of
from harness.models.sources import miniatures
from harness.models.sources.miniatures.overrides import OVERRIDES, TEXT
from harness.models.sources.miniatures.reasons import REASONS
from harness.vocabulary import Sweep
from harness.vocabulary.errors import UnknownName, UsageError

PAGE = Path(__file__).parents[3] / "docs" / "architectures.md"

SHAPES = {
    "llama": "the common shape",
    "gpt2": "attn and mlp, learned positions",
    "gemma2": "a norm after each module",
    "cohere": "parallel branches from one norm",
    "gpt_neox": "parallel branches from two norms",
    "phi3": "fused projections",
    "mixtral": "experts under another name",
    "granite": "branches scaled before they are added",
    "qwen3_next": "linear attention and attention in turn",
    "lfm2": "convolution and attention in turn",
    "mamba": "no MLP at all",
    "nemotron_h": "one module a block, of four kinds",
    "gemma3": "a language model inside a wrapper",
    "falcon_h1": "three branches",
    "longcat_flash": "two attentions and two MLPs in a block",
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_column_holds_on_every_shape(name: str) -> None:
    assert row_of(name) == dict.fromkeys(COLUMNS, PASS), SHAPES[name]


def test_a_row_comes_from_a_process_of_its_own() -> None:
    table = dict(MATRIX.rows(["hunyuan"]))
    assert MATRIX.faults(table) == []
    assert "reuses the keys and values" in table["hunyuan"]["residual"]


def test_a_process_that_dies_is_a_fault_in_every_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "python", lambda *arguments: ["/bin/false", *arguments])
    faults = MATRIX.faults(dict(MATRIX.rows(["llama"])))
    assert len(faults) == len(COLUMNS)
    assert "the process ended with 1" in faults[0]


@pytest.mark.parametrize(
    ("name", "component", "layers"),
    [
        ("llama", "self_attn", [0, 1, 2, 3]),
        ("qwen3_next", "self_attn", [1, 3]),
        ("qwen3_next", "linear_attn", [0, 2]),
        ("qwen3_next", "attn_out", [0, 1, 2, 3]),
        ("nemotron_h", "self_attn", [1]),
        ("nemotron_h", "attn_out", [0, 1]),
        ("nemotron_h", "mlp_out", [2, 3]),
        ("nemotron-nas", "attn_out", [0, 2, 3]),
        ("mamba", "mlp_out", []),
    ],
)
def test_a_hybrid_has_a_component_at_some_layers(name: str, component: str, layers: list[int]) -> None:
    assert layers_with(miniatures.load(name), component) == layers


def test_a_layer_without_the_component_names_those_that_have_it() -> None:
    with pytest.raises(UsageError, match=r"layer 0 has no self_attn; the layers that have it are \[1, 3\]"):
        resolve(miniatures.load("lfm2"), Sweep(("self_attn",)))


def test_an_architecture_that_does_not_exist_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'llama'"):
        miniatures.small_config("lama")


def test_a_configuration_that_would_fill_the_memory_is_refused_before_it_does() -> None:
    with pytest.raises(UsageError, match=r"parameters, a small configuration has at most"):
        miniatures.load("llama", change={"vocab_size": 2_000_000_000})


@pytest.mark.constrained("mlx-lm")
def test_the_page_shows_no_fault_and_every_number_has_its_reason() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert FAIL not in text
    used = set(re.findall(r"\[(\d+)\]", text))
    assert used == set(re.findall(r"^(\d+)\. ", text, re.MULTILINE))
    assert set(re.findall(r"^\| ([\w.-]+) \|", text, re.MULTILINE)) == {*miniatures.architectures(), "architecture"}


def test_every_name_that_mlx_lm_maps_to_a_row_finds_it() -> None:
    from mlx_lm.utils import MODEL_REMAPPING

    for name, target in MODEL_REMAPPING.items():
        assert architecture_of(name) is architecture_of(target), name


@pytest.mark.constrained("mlx-lm")
def test_every_row_is_an_architecture_of_mlx_lm() -> None:
    assert set(ARCHITECTURES) <= set(miniatures.architectures())
    assert set(REASONS) | set(OVERRIDES) | set(TEXT) <= set(miniatures.architectures())


@pytest.mark.parametrize("name", ["deepseek_v41", "gemma3n"])
def test_streams_that_no_position_can_be_put_back_in_are_recorded_all_the_same(name: str) -> None:
    table = dict(MATRIX.rows([name]))
    assert MATRIX.faults(table) == []
    assert table[name]["traced"] == "pass"
    assert table[name]["self-patch"] != "pass"


@pytest.mark.slow
def test_the_page_is_what_the_command_says() -> None:
    table = dict(MATRIX.rows(miniatures.architectures()))
    assert MATRIX.faults(table) == []
    assert _undated(MATRIX.page(table, "x")) == _undated(PAGE.read_text(encoding="utf-8"))


def _undated(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("Made with ")]
