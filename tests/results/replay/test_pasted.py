"""Tables as people paste them: what is read, and what is refused with its line."""

from __future__ import annotations

import pytest

from harness.results.replay import audit
from harness.results.replay.pasted import read_pasted
from harness.vocabulary.errors import CaseFileError, UsageError

REPORT = """
Baseline l2 distance: inf
Layer  0: nan% recovery
Layer 10: nan% recovery
...
Baseline mse distance: 0.6480
Layer 10:  17.9% recovery  <- Most important!
Layer 20: -11.2% recovery
Layer  0: \u2212298.6% recovery
"""


def read(text: str, metric: str = "l2") -> dict[str, tuple[str, dict[str, str]]]:
    """Return title and metric -> the baseline and the recoveries as printed."""
    return {
        f"{table.title.removeprefix('x').strip()} {name}".strip(): (
            column.baseline.text,
            {site: number.text for site, number in column.recoveries.items()},
        )
        for table in read_pasted(text, "x", metric)
        for name, column in table.columns.items()
    }


def test_the_report_of_the_overflow_is_read_metric_by_metric() -> None:
    assert read(REPORT) == {
        "l2": ("inf", {"layer 0": "nan", "layer 10": "nan"}),
        "mse": ("0.6480", {"layer 0": "-298.6", "layer 10": "17.9", "layer 20": "-11.2"}),
    }
    (table,) = read_pasted(REPORT, "x")
    assert [finding.code for finding in audit(table).findings] == ["FIN004", "FIN005"]


@pytest.mark.parametrize(
    "text",
    [
        "| Layer | L2 |\n|---|---|\n| baseline | 313.7752 |\n| 10 | 9.4 % |\n| 30 | **3.8%** |",
        "layer   l2\nbaseline   313.7752\n10   9.4%\n30   3.8%",
        "layer\tl2\nBaseline\t313.7752\n10\t9.4%\n30\t3.8%",
        "layer,l2\nbaseline,313.7752\nlayer 10,9.4%\nL30,3.8%",
        "> Baseline l2 distance: 313.7752\n> ```\n> {10: 9.4, 30: 3.8}\n> ```",
        "baseline = 313.7752\n10: 9.4\n30: 3.8",
        "\x1b[31mBaseline l2 distance: 313.7752\x1b[0m\nblock 10 9.4 %\nblock_30: 3.8 %",
    ],
    ids=["markdown", "plain", "tabs", "csv", "dict", "bare", "colours"],
)
def test_one_table_in_seven_dresses(text: str) -> None:
    assert read(text) == {"l2": ("313.7752", {"layer 10": "9.4", "layer 30": "3.8"})}


def test_columns_named_after_components_are_tables_of_their_own() -> None:
    text = "layer  mlp    self_attn\n0   17.9%   nan%\n1  3%  n/a"
    assert read(text, "mse") == {
        "mlp mse": ("unknown", {"layer 0": "17.9", "layer 1": "3"}),
        "self_attn mse": ("unknown", {"layer 0": "nan", "layer 1": "undefined"}),
    }


def test_a_component_of_one_letter_begins_its_cell() -> None:
    assert set(read("layer | k | v l2 | recovery, top k\n0 | 17.9% | 1% | 2%")) == {"k l2", "v l2", "l2"}


def test_a_baseline_that_nobody_states_is_no_finding() -> None:
    (table,) = read_pasted("Layer 1: 12.5%\nLayer 2: -3%", "x")
    assert audit(table).findings == audit(table).contradictions == ()


def test_fractions_are_taken_for_fractions_only_where_nothing_says_percent() -> None:
    assert read("{0: 0.43, 1: nan, 15: 0.242}")["l2"][1] == {"layer 0": "43", "layer 1": "nan", "layer 15": "24.2"}
    assert read("Layer 0: 0.43%\nLayer 1: 0.2%")["l2"][1] == {"layer 0": "0.43", "layer 1": "0.2"}
    assert read("{0: 0.43, 1: 2.5}")["l2"][1] == {"layer 0": "0.43", "layer 1": "2.5"}
    (table,) = read_pasted("{0: 0.43}", "x")
    assert "read as fractions" in table.about


def test_a_line_that_was_not_read_is_said() -> None:
    (table,) = read_pasted("took 3 seconds\nLayer 1: 12.5%", "x")
    assert table.about == "Not read: line 1."


def test_a_baseline_alone_is_enough() -> None:
    (table,) = read_pasted("Baseline distance: inf", "x")
    assert [finding.code for finding in audit(table).findings] == ["FIN004"]


def test_a_layer_with_two_numbers_is_refused_with_its_line() -> None:
    with pytest.raises(CaseFileError, match=r"x:3:1: layer 0 is 18 here and 17\.9 above, both l2"):
        read_pasted("0 17.9\n1 20\n0 18", "x")


@pytest.mark.parametrize("text", ["", "hello", "| layer | l2 |\n|---|---|"])
def test_a_text_without_a_number_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no baseline and no recovery found"):
        read_pasted(text, "x")
