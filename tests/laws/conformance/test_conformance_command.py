"""`harness conformance`: what it writes, how it ends, and that rows in processes of their own give the same cells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.cli import exit_code_of
from harness.engines import engine_named
from harness.laws import LAWS
from harness.laws.conformance.matrix import in_processes, row_cells
from harness.laws.conformance.rows import rows_named, usual_rows

ZOO = Path(__file__).parent
CHOSEN = ("answers", "residual", "closed-form")
OPTIONS = ["--row", "llama", *(f"--law={law}" for law in CHOSEN)]


def conformance(engine, *options):
    return exit_code_of(["conformance", "-e", engine, "--allow-code", *OPTIONS, *options])


def test_all_three_reports_say_the_same(tmp_path, capsys):
    files = [tmp_path / name for name in ("laws.json", "laws.xml", "laws.md")]
    options = [f"--json={files[0]}", f"--junit={files[1]}", f"--output={files[2]}"]
    assert conformance("defects:last_position_only", *options) == 1
    cells = json.loads(files[0].read_text())["cells"]
    assert [(cell["law"], cell["status"]) for cell in cells] == [
        ("answers", "pass"), ("residual", "fail"), ("closed-form", "skipped")]  # fmt: skip
    suite = ElementTree.parse(files[1]).getroot()
    assert [suite.get(name) for name in ("tests", "failures", "skipped")] == ["3", "1", "1"]
    assert "LAW003" in suite.find("testcase/failure").get("message")
    text = files[2].read_text()
    assert "| residual | LAW003 | llama |" in text
    assert "1. nothing is known of this model beforehand" in text
    out = capsys.readouterr().out
    again = "harness conformance --engine defects:last_position_only --allow-code --row llama --law residual"
    assert again in out
    assert "FAILED: 1 cell passed, 1 failed, 1 skipped, 1 of 3 laws broken" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-e", "native", *OPTIONS], 0, "PASSED: 2 cells passed, "),
        (["-e", "nativ"], 4, "did you mean 'native'"),
        (["-e", "native", "--row", "lama"], 4, "did you mean"),
        (["-e", "native", "--not-row", "lama"], 4, "did you mean"),
        (["-e", "native", "--not-law", "residul"], 4, "did you mean 'residual'"),
        (["-e", "native", *OPTIONS, "--not-law", "residual", "--not-row", "gpt2"], 0, "PASSED: 1 cell passed, "),
        (["-e", "native", *OPTIONS, "--not-row", "llama"], 5, "NOTHING RAN: 0 cells passed, "),
        (["-e", "native", "--law", "residul"], 4, "did you mean 'residual'"),
        (["-e", "defects:sound", *OPTIONS], 4, "runs only with --allow-code"),
        (["-e", "native", "--json", "/nowhere/x.json"], 4, "the folder /nowhere does not exist"),
        (
            ["-e", "native", "--row", "llama", "--law", "closed-form"],
            5,
            "NOTHING RAN: 0 cells passed, 0 failed, 1 skipped, 0 of 1 laws broken, 1 thing not asked, in ",
        ),
    ],
    ids=[
        "passes",
        "engine",
        "row",
        "not this row",
        "not this law",
        "left out",
        "all left out",
        "law",
        "code",
        "folder",
        "nothing ran",
    ],
)
def test_exit_codes(arguments, code, said, capsys):
    assert exit_code_of(["conformance", *arguments]) == code
    streams = capsys.readouterr()
    assert said in streams.out + streams.err


def test_a_row_in_a_process_of_its_own_gives_the_same_cells(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ZOO), os.environ.get("PYTHONPATH")))))
    laws, rows = [LAWS[name] for name in CHOSEN], rows_named(["llama"])
    (apart,) = in_processes("defects:last_position_only", True, rows, laws)
    assert apart == list(row_cells(engine_named("defects:last_position_only", True), rows[0], laws))


def test_the_default_set_has_the_families_the_dtypes_and_the_closed_forms():
    names = [row.id for row in usual_rows()]
    assert len(names) == len(set(names))
    assert {"llama", "llama-f16", "llama-bf16", "mamba2", "dial-152k-f16", "circuit-qwen3-152k-bf16"} <= set(names)


@pytest.mark.slow
def test_native_obeys_every_law_on_the_default_set():
    done = subprocess.run(
        [sys.executable, "-m", "harness", "conformance", "-e", "native"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " 0 failed" in done.stdout
