"""`harness replay` through the real command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from project import Project

REPORT = Path(__file__).parents[2] / "cases" / "replay" / "qwen3-30b-report.replay.yaml"


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_published_table_passes_and_says_what_its_digits_are_worth(project: Project) -> None:
    got = project.inside("replay", "qwen3-30b-report")
    assert (got.code, got.err) == (0, "")
    assert "which holds 151,936: the logits of one token" in words(got.out)
    assert "l2 baseline 313.7752 ✓✓✓.✓~·· outside 313.7620 to 313.7873" in words(got.out)
    assert "mse layer 47 3.3 % ·.· not checkable: no l2 recovery beside it" in words(got.out)


@pytest.mark.parametrize(
    ("printed", "altered", "code"),
    [("0.6480", "0.6481", 1), ("10: 9.4", "10: 0.4", 1), ("313.7752", "313.7753", 0), ("47: 3.3", "47: 8.3", 0)],
)
def test_an_altered_digit_in_the_file_ends_with_1_or_is_foretold_to_pass(
    project: Project, printed: str, altered: str, code: int
) -> None:
    text = REPORT.read_text(encoding="utf-8")
    assert text.count(printed) == 1
    file = project.write("altered.replay.yaml", text.replace(printed, altered))
    got = project.inside("replay", file)
    assert got.code == code
    assert ("cannot be true" in words(got.out)) is bool(code)


def test_json_holds_every_number_with_its_range(project: Project) -> None:
    got = project.inside("replay", REPORT, "--json")
    told = json.loads(got.out)
    (table,) = told["tables"]
    assert (got.code, told["verdict"], table["vocab"]) == (0, "passed", 151_936)
    assert len(table["numbers"]) == 17
    # For mse 17.9 the l2 recovery is 1 - sqrt(0.8205 to 0.8215), and half a unit more.
    layer = next(each for each in table["numbers"] if each["printed"] == "9.4")
    assert layer["possible"] == pytest.approx([9.363 - 0.05, 9.419 + 0.05], abs=1e-3)
    assert next(each for each in table["numbers"] if each["printed"] == "11.9")["possible"][1] == pytest.approx(
        100.05, abs=1e-3
    )


def test_the_result_of_a_run_replays(project: Project) -> None:
    project.case("good", more="metrics: [l2, mse, cosine]\n")
    assert project.run_inside().code == 0
    text = Path("result.json").read_text(encoding="utf-8")
    got = project.inside("replay", project.write("run.json", text))
    assert (got.code, got.err) == (0, "")
    assert "good[native@good] mlp" in got.out
    # 0.25 of the l2 at layer 1 is 1 - 0.75² = 0.4375 of the mse.
    assert "43.75" in text
    project.write("altered.json", text.replace("43.75", "43.76"))
    got = project.inside("replay", "altered.json")
    assert got.code == 1
    assert project.inside("replay", "altered.json", "--error", "1e-2").code == 0


@pytest.mark.parametrize(
    ("metric", "word", "status", "code"),
    [
        ("l2: {baseline: inf, recoveries: {0: nan, 47: nan}}", "FAILED: 2 findings (FIN004, FIN005)", "failed", 1),
        ("logit_diff: {baseline: -3.0, recoveries: {0: 20.0}}", "NOTHING CHECKED", "skipped", 5),
        ("l2: {baseline: 2.0, recoveries: {0: 20.0}}", "PASSED: 2 relations", "passed", 0),
    ],
)
def test_the_last_line_the_json_and_the_code_agree(
    project: Project, metric: str, word: str, status: str, code: int
) -> None:
    file = project.write("t.replay.yaml", f"metrics: {{{metric}}}\n")
    got, told = project.inside("replay", file), project.inside("replay", file, "--json")
    plain = json.loads(told.out)
    assert (got.code, told.code, plain["exit_code"], plain["verdict"]) == (code, code, code, status)
    assert word in words(got.out)
    assert plain["text"].startswith(word)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["qwen3-30b-reprot"], "did you mean 'qwen3-30b-report'?"),
        (["absent.yaml"], "absent.yaml: does not exist"),
        (["absent.json"], "absent.json: does not exist"),
        (["."], ": is a folder; a file is needed here"),
        (["qwen3-30b-report", "--error", "nan"], "--error: nan is not a part of a distance"),
        (["qwen3-30b-report", "--error", "2"], "2.0 is not in the range"),
    ],
)
def test_a_mistake_ends_with_4(project: Project, args: list[str], message: str) -> None:
    got = project.inside("replay", *args)
    assert (got.code, got.out) == (4, "")
    assert message in got.err
    assert "Traceback" not in got.err


def test_many_numbers_are_summed_up_and_all_are_shown_on_request(project: Project) -> None:
    layers = ", ".join(f"{layer}: 101.5" for layer in range(70))
    file = project.write("many.replay.yaml", f"metrics:\n  mse: {{baseline: 1.0, recoveries: {{{layers}}}}}\n")
    short, full = project.inside("replay", file), project.inside("replay", file, "--all")
    assert (short.code, full.code) == (1, 1)
    assert "50 more; --all shows them" in short.out
    assert short.out.count("recovery at layer") == 20
    assert full.out.count("recovery at layer") == 70
