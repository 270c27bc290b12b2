"""`include`: what wins, how values merge, where faults are named, and what may not be read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.casefile import Case, load_case
from harness.vocabulary.errors import CaseFileError

CASE = "models: [tiny]\nprompts: {clean: a, corrupted: b}\n"


def case(folder: Path, text: str, **files: str) -> Case:
    for name, content in files.items():
        file = folder / f"{name}.yaml"
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(content)
    (folder / "x.case.yaml").write_text(text)
    return load_case(folder / "x.case.yaml")


def said(folder: Path, text: str, **files: str) -> list[str]:
    with pytest.raises(CaseFileError) as error:
        case(folder, text, **files)
    return [str(problem).replace(f"{folder}/", "").replace(str(folder), "FOLDER") for problem in error.value.problems]


def test_the_case_wins_mappings_merge_and_lists_are_replaced(tmp_path: Path) -> None:
    common = "defaults: {metrics: [l2, mse], tolerance: {recovery_points: 2, oracle_points: 3}, tags: [shared]}"
    got = case(
        tmp_path, f"{CASE}include: common.yaml\nmetrics: [mse]\ntolerance: {{oracle_points: 1}}\n", common=common
    )
    assert (got.metrics, got.tags) == (("mse",), ("shared",))
    assert (got.tolerance.recovery_points, got.tolerance.oracle_points) == (2, 1)


def test_a_later_file_wins_over_an_earlier_and_a_file_over_what_it_includes(tmp_path: Path) -> None:
    files = {
        "a": "defaults: {about: a, metrics: [mse], tags: [a]}",
        "b": "include: c.yaml\ndefaults: {about: b}",
        "c": "defaults: {about: c, metrics: [l2]}",
    }
    got = case(tmp_path, f"{CASE}include: [a.yaml, b.yaml]\n", **files)
    assert (got.about, got.metrics, got.tags) == ("b", ("l2",), ("a",))


def test_what_a_case_lacks_may_come_from_the_included_file(tmp_path: Path) -> None:
    got = case(tmp_path, "include: d/common.yaml\nmodels: [tiny]\nprompts: {corrupted: b}\n",
               **{"d/common": "include: deeper.yaml\ndefaults: {prompts: {clean: a}}",
                  "d/deeper": "defaults: {about: deep}"})  # fmt: skip
    assert (got.prompts.clean, got.prompts.corrupted, got.about) == ("a", "b", "deep")


def test_a_fault_of_an_included_value_is_named_in_its_file(tmp_path: Path) -> None:
    common = "defaults:\n  metrics: [l2, mes]\n  tolerance:\n    recovery_point: 1\n"
    assert said(tmp_path, f"{CASE}include: common.yaml\nsweep: {{direction: up}}\n", common=common) == [
        "common.yaml:2:17: defaults.metrics[1]: 'mes' is not a metric; did you mean 'mse'?",
        "common.yaml:4:5: defaults.tolerance.recovery_point: is not a field here; did you mean 'recovery_points'?",
        "x.case.yaml:4:20: sweep.direction: 'up' is not a direction; known: denoising, noising",
    ]


def test_lines_are_those_of_the_case_itself(tmp_path: Path) -> None:
    got = case(tmp_path, f"{CASE}include: common.yaml\n", common="\n\n\n\ndefaults: {metrics: [l2]}")
    assert got.line_of("prompts", "clean") == 2
    assert got.line_of("metrics", 0) == 1


@pytest.mark.parametrize(
    ("include", "files", "message"),
    [
        ("comon.yaml", {"common": ""}, "x.case.yaml:3:10: include: comon.yaml: does not exist; "
         "did you mean 'common.yaml'?"),
        ("[a.yaml, 5]", {"a": "defaults: {}"}, "x.case.yaml:3:19: include[1]: expected text, found the number 5; put "
         "it in quotes"),
        ("5", {}, "x.case.yaml:3:10: include: expected the name of a file or a list of them, found the number 5"),
        ("[]", {}, "x.case.yaml:3:10: include: at least one entry is needed"),
        (".", {}, "x.case.yaml:3:10: include: .: is a folder; a file is needed here"),
        ("../y.yaml", {}, "x.case.yaml:3:10: include: '../y.yaml' leads outside FOLDER, the folder of the case; "
         "include files in it or below it"),
        ("/etc/passwd", {}, "x.case.yaml:3:10: include: '/etc/passwd' leads outside FOLDER, the folder of the case; "
         "include files in it or below it"),
        ("a/../../y.yaml", {}, "x.case.yaml:3:10: include: 'a/../../y.yaml' leads outside FOLDER, the folder of the "
         "case; include files in it or below it"),
        ("x.case.yaml", {}, "x.case.yaml:3:10: include: goes in a circle: x.case.yaml -> x.case.yaml"),
        ("y.case.yaml", {}, "x.case.yaml:3:10: include: 'y.case.yaml' is a case; what is shared stands under "
         "`defaults:` in a file that is none"),
        ("a.yaml", {"a": "include: b.yaml\ndefaults: {}", "b": "defaults: {}\ninclude: [a.yaml]"},
         "b.yaml:2:11: include[0]: goes in a circle: a.yaml -> b.yaml -> a.yaml"),
        ("a.yaml", {"a": "defalts: {}"}, "a.yaml:1:1: defalts: is not a field here; did you mean 'defaults'?"),
        ("a.yaml", {"a": "defaults: {id: a}"}, "a.yaml:1:12: defaults.id: belongs to one case; leave it out here"),
        ("a.yaml", {"a": "defaults: {include: a}"}, "a.yaml:1:12: defaults.include: stands beside `defaults`, not in "
         "it"),
        ("a.yaml", {"a": "defaults: 5"}, "a.yaml:1:11: defaults: expected a mapping, found the number 5"),
        ("a.yaml", {"a": ""}, "a.yaml:1:1: the file is empty"),
        ("a.yaml", {"a": "defaults: {a: 1, a: 2}"}, "a.yaml:1:18: 'a' is written twice; the first is on line 1"),
        ("a.yaml", {"a": "include: ../../e.yaml\ndefaults: {}"}, "a.yaml:1:10: include: '../../e.yaml' leads outside "
         "FOLDER, the folder of the case; include files in it or below it"),
    ],
)  # fmt: skip
def test_every_message(tmp_path: Path, include: str, files: dict[str, str], message: str) -> None:
    assert message in said(tmp_path, f"{CASE}include: {include}\n", **files)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("defaults: {about: secret}")
    folder = tmp_path / "cases"
    folder.mkdir()
    os.symlink(tmp_path / "secret.yaml", folder / "link.yaml")
    (message,) = said(folder, f"{CASE}include: link.yaml\n")
    assert message.startswith("x.case.yaml:3:10: include: 'link.yaml' leads outside FOLDER")


def test_files_that_include_each_other_crosswise_are_bounded(tmp_path: Path) -> None:
    depth = 12
    for level in range(depth):
        for side in "ab":
            deeper = f"include: [a{level + 1}.yaml, b{level + 1}.yaml]\n" if level < depth - 1 else ""
            (tmp_path / f"{side}{level}.yaml").write_text(f"{deeper}defaults: {{}}\n")
    assert any("more than 32 files are included" in line for line in said(tmp_path, f"{CASE}include: a0.yaml\n"))


def test_what_cannot_be_read_hides_no_other_fault_and_invents_none(tmp_path: Path) -> None:
    assert said(tmp_path, "include: gone.yaml\nmodels: [tiny]\nmetrics: [l3]\nprompts: {clean: 5}\n") == [
        "x.case.yaml:1:10: include: gone.yaml: does not exist; did you mean 'x.case.yaml'?",
        "x.case.yaml:3:11: metrics[0]: 'l3' is not a metric; known: cosine, kl_divergence, l2, log_prob, "
        "logit_diff, mse",
        "x.case.yaml:4:18: prompts.clean: expected text, a list of token ids, or `messages`, found the number 5",
    ]
