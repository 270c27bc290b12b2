"""Each law has planted defects that it catches, and the sound engine and `native` obey them all.

`pytest tests/conformance -v` prints the table: law, defect, caught.
"""

from __future__ import annotations

import defects
import pytest

from harness import models
from harness.engines import engine_named
from harness.laws import FIRST, LAWS
from harness.laws.conformance.matrix import FAIL, PASS, SKIP, WARN, row_cells
from harness.laws.conformance.rows import ModelRow, architecture
from harness.laws.subject import Outcome
from harness.models.spec import DialRow
from harness.vocabulary.errors import DoesNotApply
from harness.vocabulary.findings import FINDINGS, Severity


def dial(dtype="float32", logits="plain", scale=1.0, vocab=2048):
    row = DialRow(id="d", source="groundtruth", kind="dial", vocab=vocab, weights=(0.25, 0.5, 1.0), dtype=dtype,
                  logits=logits, scale=scale)  # fmt: skip
    return ModelRow("dial", lambda: models.load(row), (0,), (1,), undefined=logits in ("nan", "inf"))


LLAMA, DIAL, NAN = architecture("llama"), dial(), dial(logits="nan")
LOOPED = architecture("iquestloopcoder")
EXTREME, WIDE = dial("float16", "extreme"), dial("float16", scale=16.0)

PLANTED = [
    ("answers", "raising", LLAMA),
    ("answers", "missing_layer", LLAMA),
    ("answers", "narrow_sum", WIDE),
    ("traced", "noisy_trace", LLAMA),
    ("traced", "other_tokens", LLAMA),
    ("self-patch", "noisy_trace", LLAMA),
    ("residual", "last_position_only", LLAMA),
    ("residual", "fraction", LLAMA),
    ("residual", "hook_never_fires", LLAMA),
    ("taps", "hook_never_fires", LLAMA),
    ("taps", "hook_fires_twice", LLAMA),
    ("taps", "wrong_layer", LLAMA),
    ("metrics", "mse_like_l2", LLAMA),
    ("nested", "own_idea_of_names", LLAMA),
    ("repetition", "drifting", LLAMA),
    ("order", "leaking", LLAMA),
    ("scale", "constant_in_metric", LLAMA),
    ("in-place", "aliasing", LLAMA),
    ("vocabulary", "first_tokens_only", LLAMA),
    ("exchanged", "library:positive_gap", LLAMA),
    ("identity", "mse_like_l2", LLAMA),
    ("closed-form", "mse_like_l2", DIAL),
    ("answers", "narrow_subtraction", EXTREME),
    ("lengths", "end_aligned", LLAMA),
    ("names", "accepts_unknown_names", LLAMA),
    ("undefined", "guarded_zero", LLAMA),
    ("undefined", "guarded_zero", NAN),
    ("undefined", "guarded_zero_and_nan", NAN),
    ("declared", "wrong_layer", LLAMA),
    ("declared", "fraction", LLAMA),
    ("declared", "last_call_only", LOOPED),
    ("places", "wide:own_off_at_last", LLAMA),
    ("first-order", "estimating:next_layer", LLAMA),
    ("after", "leaves_wrappers", LLAMA),
    ("after", "reorders", LLAMA),
    ("after", "reorders_and_changes", LLAMA),
    ("after", "leaves_classes", LLAMA),
    ("after", "changes_parameter", LLAMA),
    ("after-error", "untidy_on_error", LLAMA),
    ("after-ctrl-c", "untidy_on_interrupt", LLAMA),
]  # fmt: skip
"""Law, the engine of the zoo that breaks it, and the model where it shows."""


def cells(name, row, laws=tuple(LAWS)):
    return {cell.law: cell for cell in row_cells(engine_named(name, allow_code=True), row, [LAWS[n] for n in laws])}


@pytest.mark.parametrize(("law", "defect", "row"), PLANTED, ids=[f"{law}: {defect}" for law, defect, _ in PLANTED])
def test_a_planted_defect_is_caught(law, defect, row):
    cell = cells(defect if ":" in defect else f"defects:{defect}", row, (law,))[law]
    assert cell.status in (WARN, FAIL), cell.text
    assert cell.status == (WARN if FINDINGS[cell.code].severity is Severity.WARNING else FAIL), cell.text
    assert cell.smallest is not None
    assert cell.smallest.seen


def test_every_law_has_a_planted_defect():
    assert {law for law, _, _ in PLANTED} == set(LAWS)
    assert {law.code for law in LAWS.values()} <= set(FINDINGS)


def test_every_engine_of_the_zoo_is_planted_somewhere():
    zoo = {name for name, found in vars(defects).items() if isinstance(found, defects.Engine)}
    planted = {defect for _, defect, _ in PLANTED if ":" not in defect}
    assert zoo - {"sound", "stops_early", "warning", "unseen"} == planted


@pytest.mark.parametrize("row", [LLAMA, architecture("llama", "bfloat16"), architecture("mamba2"), DIAL, NAN, EXTREME],
                         ids=lambda row: row.id)  # fmt: skip
@pytest.mark.parametrize("name", ["native", "defects:sound"])
def test_a_right_engine_obeys_every_law(name, row):
    found = cells(name, row)
    assert {law: cell.text for law, cell in found.items() if cell.status == FAIL} == {}
    assert sum(cell.status == PASS for cell in found.values()) >= 7
    assert all(cell.text for cell in found.values() if cell.status == SKIP)


def test_own_activations_are_not_judged_where_none_were_put_back():
    """An engine that sees equal prompts and stops has patched nothing: that is no pass, and no breach."""
    cell = cells("defects:stops_early", LLAMA, ("self-patch",))["self-patch"]
    assert (cell.status, "ran the model 2 times" in cell.text) == (SKIP, True)


def test_untidiness_shows_only_where_it_is():
    """One that cleans up after an Exception passes that law, and fails the one about Ctrl-C."""
    found = cells("defects:untidy_on_interrupt", LLAMA, ("after", "after-error", "after-ctrl-c"))
    assert [cell.status for cell in found.values()] == [PASS, PASS, FAIL]


def test_the_formula_of_the_report_is_caught_and_its_fix_where_it_still_fails():
    wide = dial("float16", scale=16.0)
    assert cells("legacy", wide, ("answers",))["answers"].status == FAIL
    assert cells("published", wide, ("answers", "undefined"))["undefined"].status == FAIL


def test_the_smallest_question_is_smaller():
    small = cells("defects:hook_never_fires", LLAMA, ("taps",))["taps"].smallest
    assert (small.clean, small.corrupted, small.layers) == ((3, 7), (3, 8), (0,))


def test_the_smallest_question_is_the_one_that_was_asked():
    """A law about answers is asked of the smaller question too, and not again of the one that it was found by."""
    small = cells("defects:constant_in_metric", LLAMA, ("scale",))["scale"].smallest
    assert (small.clean, small.layers) == ((3, 7), (0,))
    assert cells("defects:leaking", LLAMA, ("order",))["order"].smallest.layers is None


def test_where_an_engine_does_not_answer_nothing_else_is_asked():
    found = cells("defects:raising", LLAMA)
    assert found[FIRST].status == FAIL
    assert {cell.text for law, cell in found.items() if law != FIRST} == {"it does not answer here"}


def test_the_identity_of_l2_and_mse_is_not_passed_where_there_is_nothing_to_compare():
    class Silent:
        def needs(self, metric):
            """It claims to have every metric."""

        def under(self, metric):
            return self

        plain = Outcome()

    with pytest.raises(DoesNotApply, match="no layer has a finite recovery under both"):
        LAWS["identity"].of_engine(Silent())
