"""What a diagnosis looks like: the paragraph to paste, and the screen of 80 columns."""

from __future__ import annotations

import io
from dataclasses import replace

from harness.diagnosis.outcome.diagnosis import Diagnosis, StepLog
from harness.diagnosis.outcome.nouns import APPEARS, PROPAGATES, Frame, Place, PlacedFinding
from harness.diagnosis.outcome.page import short_name
from harness.results.reports.terminal import console

NAME = "model.layers.12.mlp.down_proj"
ABOUT = {"model": "m", "architecture": "llama", "dtype": "float16", "versions": "mlx 1"}


def found(run: str = "clean", module: str = NAME, code: str = "DIA204", said: str = "the operands reach 25536"):
    return PlacedFinding.of(code, f"{module}: {said}", Place.of_module("forward", run, module, 2, 91))


def frame(index: int, module: str, flow: str = "", **more):
    return Frame(index, "clean", module, 12, "Linear", "float16", (1, 5, 576), 62_780.0, flow=flow, **more)


def diagnosis(*findings: PlacedFinding, trail=()) -> Diagnosis:
    log = StepLog()
    log.add("environment", (), "mlx 1")
    log.add("forward", findings, "first not finite")
    log.skip("not asked for", "comparisons")
    return log.finished(trail, ABOUT)


def test_each_fact_stands_once_in_the_paragraph():
    text = diagnosis(found()).paragraph
    for fact in ("**m**", "llama, float16", f"`{NAME}`", "token 2, dimension 91", "DIA204, F09, proven", "25536"):
        assert text.count(fact) == 1, fact
    assert text.count("**Remedy:**") == 1
    assert f"in the clean run, `{NAME}`, token 2, dimension 91: the operands reach 25536" in text
    assert "\n" not in text


def test_what_both_prompts_show_is_one_and_what_they_do_not_is_two():
    both = diagnosis(found(), found("corrupted", said="the operands reach 27456")).paragraph
    assert "the corrupted run shows the same" in both
    assert "27456" not in both
    apart = diagnosis(found(), found("corrupted", "model.layers.3.mlp.down_proj")).paragraph
    assert "Also DIA204: `model.layers.3.mlp.down_proj`" in apart
    other_cause = diagnosis(found(), found("corrupted", code="DIA203")).paragraph
    assert "Also DIA203" in other_cause


def test_names_are_code_and_what_is_no_name_is_not():
    said = 'see model.norm.weight and `x = x @ self["w"].T` at linear.py:74, 3.5 or 1e-3'
    text = diagnosis(found(said=said)).paragraph
    assert 'see `model.norm.weight` and `x = x @ self["w"].T` at linear.py:74, 3.5 or 1e-3' in text


def test_the_screen_tells_only_what_the_paragraph_leaves_out():
    warning = replace(found("corrupted", "model.norm", code="DIA108"), message="model.norm: small")
    text = str(diagnosis(found(), warning))
    assert text.count("the operands reach 25536") == 1
    assert text.count("model.norm: small") == 1
    assert "not reached: weights, shadow, patched, metric, recovery (a fault was found before)" in " ".join(
        text.split()
    )


def test_the_trail_fits_80_columns_and_has_no_empty_column():
    trail = [
        frame(0, "model.layers.12.post_attention_layernorm", headroom=1.0),
        frame(1, NAME, APPEARS, pos_inf=771, neg_inf=839, first=(2, 91), headroom=1.0),
        frame(2, "model.layers.12", PROPAGATES, nan=3, first=(None, 91)),
    ]
    lines = str(diagnosis(found(), trail=trail)).splitlines()[1:]
    assert max(map(len, lines)) <= 80
    assert any(line.split()[:2] == ["12.mlp.down_proj", "6.278e+04"] for line in lines)
    (head,) = [line.split() for line in lines if line.startswith(" module")]
    assert head == ["module", "largest", "headroom", "not", "finite", "flow"]
    assert any(line.split()[0] == "12.post_attention_layernorm" for line in lines if line.strip())
    assert any(line.split()[-5:] == ["771", "inf,", "839", "-inf", "appears"] for line in lines)
    assert any("trail in the order of execution, run clean, dtype float16" in line for line in lines)
    finite = str(diagnosis(found(), trail=[frame(1, NAME, APPEARS)]))
    assert "headroom" not in finite


def test_a_wide_screen_shows_the_shape_and_the_first_element_too():
    file = io.StringIO()
    screen = console(file, 120)
    between = "model.layers.12.mlp.up_proj and the end"
    shown = [replace(frame(1, "model.layers.12.mlp", APPEARS, nan=3, first=(2, 91)), between=between)]
    diagnosis(found(), trail=shown).show(screen)
    text = file.getvalue()
    assert ("shape" in text, "2,91" in text, "12.mlp (12.mlp.up_proj and the end)" in text) == (True, True, True)


def test_short_names():
    names = {"model.layers.12.mlp": "12.mlp", "transformer.h.3": "3", "model.norm": "norm", "lm_head": "lm_head"}
    assert {name: short_name(name) for name in names} == names
    assert short_name("") == "the model"
