"""Laws about the engine are asked once, harmless breaches warn, declared forms are asked, and the rest is listed."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import defects
import pytest
import wide

from harness.cli import exit_code_of
from harness.engines import engine_named
from harness.engines.function import function_engine
from harness.laws import LAWS
from harness.laws.conformance.known import read_known, with_known
from harness.laws.conformance.matrix import FAIL, KNOWN, PASS, SKIP, WARN, LawCell, asked_of, row_cells
from harness.laws.conformance.report import Conformance
from harness.laws.conformance.rows import architecture, known, usual_rows
from harness.models.sources.miniatures.reasons import REASONS

LLAMA, LOOPED = architecture("llama"), architecture("iquestloopcoder")
SHORT = replace(LLAMA, clean=(3, 7, 9), corrupted=(3, 8, 9))
ONCE = {"in-place", "exchanged", "lengths", "names", "after-error", "after-ctrl-c"}


def cells(engine, row, *laws, of=defects):
    asked = [law for law in LAWS.values() if not laws or law.name in laws]
    return list(row_cells(function_engine(getattr(of, engine), engine), row, asked))


def reported(found, strict=False):
    return Conformance("e", None, tuple(LAWS), tuple(found), {}, 0.0, (), strict)


# -- models that break wrappers ----------------------------------------------------------------------------------------


def test_the_default_set_has_blocks_of_several_kinds_and_a_loop():
    assert {"olmo_hybrid", "recurrent_gemma", "iquestloopcoder"} <= {row.id for row in usual_rows()}


def test_a_reason_of_one_law_excuses_no_other():
    """The looped model calls no block, so that no residual stream can be tapped; its parts can."""
    assert LOOPED.reason("residual") is not None
    assert [law for law in LAWS if LOOPED.reason(law)] == ["residual"]
    assert {law for name in REASONS for law in LAWS if architecture(name).reason(law)} == {"answers", "residual"}


def test_what_is_wrong_in_a_loop_only_is_seen_there():
    (cell, *_) = cells("last_call_only", LOOPED, "declared")
    assert cell.status == FAIL, cell
    assert {cell.status for cell in cells("last_call_only", LLAMA, "declared", "taps")} == {PASS}
    assert {cell.status for cell in cells("sound", LOOPED, "declared", "taps")} == {PASS}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ["olmo_hybrid", "recurrent_gemma", "iquestloopcoder"])
@pytest.mark.parametrize("engine", ["native", "defects:sound"])
def test_right_engines_pass_on_them(name, dtype, engine):
    found = list(row_cells(engine_named(engine, allow_code=True), architecture(name, dtype), list(LAWS.values())))
    assert [cell for cell in found if cell.status not in (PASS, SKIP)] == []
    assert sum(cell.status == PASS for cell in found) >= 15


# -- once a run --------------------------------------------------------------------------------------------------------


def test_laws_about_the_engine_are_asked_on_the_first_model_that_answers_them():
    assert {law.name for law in LAWS.values() if law.once} == ONCE
    said = {"a": SKIP, "b": FAIL, "c": PASS}
    asked = []

    def ask(row, laws):
        asked.append((row, [law.name for law in laws]))
        return [LawCell(row, law.name, said[row]) for law in laws]

    found = list(asked_of(["a", "b", "c"], [LAWS["names"], LAWS["order"]], ask))
    assert asked == [("a", ["names", "order"]), ("b", ["names", "order"]), ("c", ["order"])]
    assert [cell.law for row in found for cell in row if cell.status == FAIL] == ["names", "order"]


def test_a_breach_about_the_engine_is_said_of_one_model(capsys):
    options = ["--row", "llama", "--row", "gpt2", "--law", "names", "--law", "identity"]
    assert exit_code_of(["conformance", "-e", "defects:accepts_unknown_names", "--allow-code", *options]) == 1
    out = capsys.readouterr().out
    assert out.count("LAW013 a name that does not exist") == 3  # a metric, a component and a layer
    assert "more" not in out.partition("not asked")[0]


# -- true and harmless -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "law", "code"), [("reorders", "after", "LAW017"), ("aliasing", "in-place", "LAW008")]
)
def test_what_harms_no_number_warns_and_fails_only_where_it_is_asked_to(engine, law, code):
    found = cells(engine, SHORT, law, "declared")
    assert [(cell.code, cell.status) for cell in found if cell.law == law] == [(code, WARN)]
    report = reported(found)
    assert report.judgement[1] == 0
    assert "1 warned" in report.verdict()
    assert [cell.code for cell, _ in report.warnings] == [code]
    assert reported(found, strict=True).judgement[1] == 1


def test_a_known_warning_fails_not_even_strictly(tmp_path):
    entry = '  - {law: in-place, row: llama, reason: "issue 12"}'
    (tmp_path / "known.yaml").write_text(f"known:\n{entry}\n")
    found = with_known(
        reported(cells("aliasing", SHORT, "in-place"), strict=True), read_known(tmp_path / "known.yaml"), []
    )
    assert [(cell.status, cell.code) for cell in found.cells] == [(KNOWN, "LAW008")]
    assert (found.judgement[1], found.stale) == (0, ())


def test_another_order_hides_no_changed_value():
    found = cells("reorders_and_changes", SHORT, "after")
    assert {(cell.kind, cell.status) for cell in found} == {("parameters", FAIL), ("order", WARN)}
    assert reported(found).judgement[1] == 1


def test_a_sound_engine_warns_of_nothing():
    assert {cell.status for cell in cells("sound", SHORT, "in-place", "after")} == {PASS}


def test_warned_stands_in_the_json(tmp_path, capsys):
    file = tmp_path / "laws.json"
    options = ["--row", "llama", "--law", "in-place", "--json", str(file)]
    asked = ["conformance", "-e", "defects:aliasing", "--allow-code", *options]
    assert exit_code_of(asked) == 0
    plain = json.loads(file.read_text())
    assert [(each["code"], each["rows"]) for each in plain["warned"]] == [("LAW008", ["llama"])]
    assert plain["cells"][0]["status"] == "warned"
    assert "LAW008 warning:" in capsys.readouterr().out
    assert exit_code_of([*asked, "--strict"]) == 1


# -- every declared form -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["noising_only", "grids_only", "kl_only", "logit_diff_only", "own_metric"])
def test_an_engine_that_declares_one_thing_is_asked_all_that_applies(engine):
    found = cells(engine, SHORT, of=wide)
    assert [cell for cell in found if cell.status not in (PASS, SKIP)] == []
    passed = {cell.law for cell in found if cell.status == PASS}
    assert {
        "answers",
        "after",
        "traced",
        "self-patch",
        "residual",
        "repetition",
        "lengths",
        "names",
        "undefined",
    } <= passed


@pytest.mark.parametrize(
    ("engine", "law", "said"),
    [
        ("drifting_in_noising", "repetition", "noising"),
        ("cosine_guard", "undefined", "cosine"),
        ("own_unguarded", "undefined", "probability"),
        ("own_off_at_last", "places", "last"),
    ],
)
def test_a_law_broken_in_one_form_only_is_seen(engine, law, said):
    (cell, *_) = cells(engine, SHORT, law, of=wide)
    assert cell.status == FAIL, cell
    assert said in cell.text


def test_two_mistakes_at_once_are_both_shown():
    kinds = {cell.kind for cell in cells("two_mistakes", SHORT, "declared", of=wide)}
    assert {"factor 0.01", "not squared"} <= kinds
    undefined = replace(known("dial-nan-f16"), undefined=True)
    said = {cell.kind for cell in cells("guarded_zero_and_nan", undefined, "undefined")}
    assert said == {"equal prompts", "logits that are not finite"}


def test_a_score_has_a_value_where_the_logits_it_reads_are_finite():
    """The answers are tokens whose logits are finite; a log probability and a distance need all of them."""
    nan = known("dial-nan-f16")
    assert {cell.status for cell in undefined(nan, "logit_diff")} == {PASS}
    (cell,) = undefined(nan, "log_prob")
    assert (cell.status, cell.kind) == (FAIL, "logits that are not finite")
    assert {cell.status for cell in cells("guarded_zero_and_nan", nan, "undefined")} == {FAIL}


def undefined(row, metric):
    """Hold an engine to the law that gives every score as the difference of the two answers."""

    def patch(model, clean, corrupted, component, layers, metric, answers):
        def score(logits):
            return float(logits[answers.answer] - logits[answers.wrong])

        own = defects.sound
        one, other = (score(own.forward(model, ids)) for ids in (clean, corrupted))
        patched = {layer: score(own.patched(model, clean, corrupted, component, layer)) for layer in layers}
        return {
            layer: 100 * (each - other) / (one - other) if one != other else math.nan for layer, each in patched.items()
        }

    patch.harness = {**defects.DECLARED, "metrics": [metric]}
    return list(row_cells(function_engine(patch, "mine"), row, [LAWS["undefined"]]))


# -- what nobody asked -------------------------------------------------------------------------------------------------


def conformance(engine, file, *laws):
    options = [*(f"--law={law}" for law in laws), "--row", "llama", "--json", str(file), "-o", str(file) + ".md"]
    code = exit_code_of(["conformance", "-e", engine, "--allow-code", *options])
    return code, json.loads(file.read_text())["not_asked"]


def test_what_was_not_asked_is_listed(tmp_path, capsys):
    code, listed = conformance("wide:own_metric", tmp_path / "laws.json", "answers", "declared", "closed-form")
    assert "the numbers of the metric 'probability': the harness does not know it" in listed
    assert any(each.startswith("the law closed-form, on any model:") for each in listed)
    # Its answers were taken, and no number was held against a right one.
    assert code == 5
    out = capsys.readouterr().out
    assert "NOTHING DECLARED WAS ASKED: 1 cell passed" in out
    assert all(f"not asked: {each}" in " ".join(out.split()) for each in listed)
    assert "Not asked:" in (tmp_path / "laws.json.md").read_text()


def test_a_component_that_no_model_has_is_listed_and_passes_nothing(tmp_path):
    code, listed = conformance("wide:nowhere", tmp_path / "laws.json", "answers", "declared")
    assert code == 5
    assert listed


def test_forms_that_the_design_leaves_out_are_counted(tmp_path):
    code, listed = conformance("defects:sound", tmp_path / "laws.json", "declared")
    assert code == 0
    assert any("of 9 forms were asked of one model" in each for each in listed), listed


# -- what it costs -----------------------------------------------------------------------------------------------------

BEFORE = {"llama": 329, "mamba2": 297}
"""Forward passes of these rows before declarations were asked, of an engine that declares l2, mse and cosine, all
positions and denoising; all 36 rows of the default set took 13,684."""


def test_an_ordinary_declaration_costs_at_most_half_as_much_again():
    passes = 0

    def counted(row):
        def build():
            model = row.build()
            kind = type(model.module)

            def call(self, *args, **kwargs):
                nonlocal passes
                passes += 1
                return kind.__call__(self, *args, **kwargs)

            model.module.__class__ = type(kind.__name__, (kind,), {"__call__": call})
            return model

        return replace(row, build=build)

    engine = function_engine(defects.sound, "sound")
    rows = [counted(architecture(name)) for name in BEFORE]
    laws = list(LAWS.values())
    found = list(asked_of(rows, laws, lambda row, asked: list(row_cells(engine, row, asked))))
    assert {cell.status for cells in found for cell in cells} == {PASS, SKIP}
    assert sum(BEFORE.values()) / 2 < passes <= 1.5 * sum(BEFORE.values())


def test_a_sweep_that_did_not_go_one_pass_is_told_once_with_its_reason(capsys):
    assert exit_code_of(["conformance", "-e", "native", *(f"--row={row}" for row in ("llama", "iquestloopcoder")),
                         "--law=answers", "--law=scale", "--law=after-error"]) == 0  # fmt: skip
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.count("went stepwise") == 1
    assert "iquestloopcoder went stepwise: " in shown
