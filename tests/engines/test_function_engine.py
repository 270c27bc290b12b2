"""`module:callable` as an engine, and `module:function` as a metric: documented, declared, and run only if allowed."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.cli import exit_code_of
from harness.engines import engine_named
from harness.laws import LAWS
from harness.laws.conformance.matrix import FAIL, PASS, row_cells
from harness.laws.conformance.rows import rows_named
from harness.results.json import read
from harness.vocabulary.errors import UsageError

DOCS = (Path(__file__).parents[2] / "docs" / "engines.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
CASE, _ = re.findall(r"^```yaml\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder, importable; what was imported from it is forgotten."""
    known = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def written(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_the_documented_example_runs_beside_native_and_agrees(folder):
    written(folder, "mypatch.py", PYTHON[0])
    written(folder, "mine.case.yaml", CASE)
    assert exit_code_of(["run", "--allow-code", "--json", "out.json", "mine.case.yaml"]) == 0
    by_engine = {job.engine: job for job in read(Path("out.json")).jobs}
    mine, native = by_engine["mypatch:patch"], by_engine["native"]
    assert mine.engine_version == "1.0"
    assert mine.curves[0].baseline.value == pytest.approx(native.curves[0].baseline.value, rel=1e-4)
    for ours, theirs in zip(native.curves[0].cells, mine.curves[0].cells, strict=True):
        assert theirs.recovery.value == pytest.approx(ours.recovery.value, abs=0.01)
        assert theirs.oracle.value == pytest.approx(ours.recovery.value, abs=0.01)


def test_what_is_printed_to_run_again_may_run_the_code(folder, capsys):
    written(
        folder,
        "mypatch.py",
        "def patch(*asked, **more):\n    raise ValueError('planted')\n\n\n"
        "patch.harness = {'units': 'percent', 'metrics': ['l2'], 'components': ['mlp_out'], 'version': '1'}\n",
    )
    written(
        folder,
        "mine.case.yaml",
        "models: [dial-tiny-f32]\nengines: ['mypatch:patch']\nprompts: {clean: [0], corrupted: [1]}\nmetrics: [l2]\n",
    )
    assert exit_code_of(["run", "--allow-code", "-o", "out.md", "mine.case.yaml"]) == 1
    printed = re.findall(r"^ *(harness run .*)$", capsys.readouterr().out, re.MULTILINE)
    reported = re.findall(r"`(harness run .*)`", Path("out.md").read_text(encoding="utf-8"))
    assert [line.count("--allow-code") for line in (*printed, *reported)] == [1, 1]


def test_the_documented_example_obeys_the_laws_it_can(folder, capsys):
    written(folder, "mypatch.py", PYTHON[0])
    laws = ("answers", "after", "traced", "self-patch", "taps", "repetition", "order", "scale", "after-ctrl-c")
    options = [f"--law={law}" for law in laws]
    assert exit_code_of(["conformance", "-e", "mypatch:patch", "--allow-code", "--row", "llama", *options]) == 0
    assert "PASSED: 9 cells passed, 0 failed, 0 skipped" in capsys.readouterr().out


def diagnosing(*options):
    return ("diagnose", "-m", "llama-2k-f32", "--clean-ids", "1,2,3", "--corrupted-ids", "1,5,3", "-c", "mlp", *options)


OWN = ("-e", "mypatch:patch", "--allow-code")
BESIDE = ("run", "--allow-code", "--with-engine", "mypatch:patch", "plain.case.yaml")
COMMANDS = {
    "a case": (("run", "--allow-code", "mine.case.yaml"), "mypatch:patch mlp l2"),
    "beside a case": (BESIDE, "mypatch:patch mlp l2"),
    "conformance": (("conformance", *OWN, "--row", "llama", "--law=answers"), "PASSED: 1 cell passed"),
    "diagnose": (diagnosing(*OWN), "mypatch:patch patched mlp at 4 layers"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_file_of_the_page_is_taken_by_every_command(folder, capsys, command):
    written(folder, "mypatch.py", PYTHON[0])
    written(folder, "mine.case.yaml", CASE)
    written(folder, "plain.case.yaml", CASE.replace(', "mypatch:patch"', ""))
    arguments, shown = COMMANDS[command]
    assert exit_code_of(arguments) == 0
    assert shown in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("named", [False, True], ids=["the function", "its name"])
def test_the_file_of_the_page_is_taken_by_a_notebook(folder, named):
    written(folder, "mypatch.py", PYTHON[0])
    engine = "mypatch:patch" if named else importlib.import_module("mypatch").patch
    found = harness.diagnose(
        "llama-2k-f32", clean=[1, 2, 3], corrupted=[1, 5, 3], component="mlp", engine=engine, allow_code=named
    )
    assert (found.verdict, found.findings) == ("clean", ())
    told = {rung.name: rung.summary for rung in found.steps}
    assert told["patched"] == f"{'mypatch:patch' if named else 'patch'} patched mlp at 4 layers"
    native = harness.diagnose("llama-2k-f32", clean=[1, 2, 3], corrupted=[1, 5, 3], component="mlp")
    assert told["recovery"] == next(rung.summary for rung in native.steps if rung.name == "recovery")


def test_the_saved_case_of_a_function_is_run_with_its_permission(folder, capsys):
    written(folder, "mypatch.py", PYTHON[0].replace("return float(np", "return 1.5 + float(np"))
    assert exit_code_of(diagnosing(*OWN, "--save-case", "c.case.yaml")) == 1
    out = capsys.readouterr().out
    assert "DIA408" in out
    command = "harness run c.case.yaml --allow-code"
    assert f"{command} --engine mypatch:patch  fails, and with --engine native it passes" in out
    for engine, code in (("mypatch:patch", 1), ("native", 0)):
        assert exit_code_of([*command.split()[1:], "--engine", engine]) == code


def test_the_notebook_of_the_page_prints_its_paragraph(folder, capsys):
    written(folder, "mypatch.py", PYTHON[0])
    exec(compile(PYTHON[1], "page", "exec"), {})
    assert "No fault found.** Looked at: environment, weights, forward, patched, metric" in capsys.readouterr().out


ONE = ("--ids", "--clean", "0", "--corrupted", "1")
REFUSING = {
    "a case": ("run", "c.case.yaml"),
    "beside a case": ("run", "--with-engine", "planted:patch", "plain.case.yaml"),
    "patch": ("patch", "-m", "dial-tiny-f32", *ONE, "-e", "planted:patch"),
    "conformance": ("conformance", "-e", "planted:patch"),
    "diagnose": diagnosing("-e", "planted:patch"),
}
REFUSED = "the engine 'planted:patch' is code of your own, and runs only with {}; nothing was imported"


@pytest.mark.parametrize("command", REFUSING)
def test_every_command_refuses_code_in_the_same_words(folder, capsys, command):
    written(folder, "planted.py", "open('imported', 'w')\n")
    case = "models: [dial-tiny-f32]\nprompts: {clean: [0], corrupted: [1]}\n"
    written(folder, "plain.case.yaml", case)
    written(folder, "c.case.yaml", case + "engines: [native, 'planted:patch']\n")
    assert exit_code_of(REFUSING[command]) == 4
    assert REFUSED.format("--allow-code") in capsys.readouterr().err
    assert not Path("imported").exists()


def test_a_notebook_is_told_its_own_way_to_allow_code(folder):
    written(folder, "planted.py", "open('imported', 'w')\n")
    with pytest.raises(UsageError, match=re.escape(REFUSED.format("allow_code=True"))):
        harness.diagnose("llama-2k-f32", clean=[1, 2, 3], corrupted=[1, 5, 3], engine="planted:patch")
    assert not Path("imported").exists()


def test_the_documented_metric_is_measured(folder):
    written(folder, "mymetric.py", PYTHON[2])
    written(folder, "m.case.yaml", "models: [dial-tiny-f32]\nprompts: {clean: [0], corrupted: [1]}\n"
            "sweep: {components: [mlp]}\nmetrics: [l2, 'mymetric:largest_difference']\n")  # fmt: skip
    assert exit_code_of(["run", "--allow-code", "--json", "out.json", "m.case.yaml"]) == 0
    l2, mine = read(Path("out.json")).jobs[0].curves
    assert mine.metric == "mymetric:largest_difference"
    # On the dial a patched row is a mixture, so that every distance shrinks by the same share.
    assert [c.recovery.value for c in mine.cells] == pytest.approx([c.recovery.value for c in l2.cells], abs=0.01)


COLUMN = {"engines": 19, "metrics": 15}


@pytest.mark.parametrize(
    ("key", "text"),
    [("engines", "engines: [native, 'planted:patch']\n"), ("metrics", "metrics: [l2, 'planted:patch']\n")],
)
def test_code_is_refused_at_its_line_and_not_imported_unless_allowed(folder, key, text, capsys):
    written(folder, "planted.py", "open('imported', 'w')\n")
    written(folder, "c.case.yaml", f"models: [dial-tiny-f32]\nprompts: {{clean: [0], corrupted: [1]}}\n{text}")
    assert exit_code_of(["run", "c.case.yaml"]) == 4
    noun = key.removesuffix("s")
    wanted = f"{key}[1]: the {noun} 'planted:patch' is code of your own, and runs only with --allow-code"
    assert f"c.case.yaml:3:{COLUMN[key]}: {wanted}" in capsys.readouterr().err
    assert not Path("imported").exists()
    assert exit_code_of(["validate", "c.case.yaml"]) == 0
    assert exit_code_of(["list", "c.case.yaml"]) == 0
    assert not Path("imported").exists()
    assert exit_code_of(["patch", "-m", "dial-tiny-f32", "--ids", "--clean", "0", "--corrupted", "1",
                         f"--{noun}", "planted:patch"]) == 4  # fmt: skip
    assert not Path("imported").exists()


def test_a_metric_beside_the_case_is_found_from_the_command_line(tmp_path):
    """Without an engine of the folder, which would have put the folder on the path."""
    written(tmp_path, "mymetric.py", PYTHON[2])
    case = CASE.replace(', "mypatch:patch"', "").replace("metrics: [l2]", 'metrics: ["mymetric:largest_difference"]')
    written(tmp_path, "mine.case.yaml", case.replace("llama-2k-f32", "circuit-llama-2k-f32"))
    command = [Path(sys.executable).with_name("harness"), "run", "--allow-code", "mine.case.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mymetric:largest_difference" in done.stdout


def test_pytest_refuses_code_without_its_flag_and_runs_it_with_it(folder, monkeypatch):
    # `harness run` in this process leaves this behind for its own pytest.
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", raising=False)
    written(folder, "mypatch.py", PYTHON[0])
    written(
        folder, "mine.case.yaml", CASE.replace("llama-2k-f32", "circuit-llama-2k-f32").replace("[1, 5, 3]", "[2, 2, 3]")
    )
    command = [sys.executable, "-m", "pytest", "-q", "-pno:cacheprovider", "mine.case.yaml"]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 4
    assert "runs only with --allow-code" in refused.stdout
    allowed = subprocess.run([*command, "--harness-allow-code", "-k", "mypatch"], capture_output=True, text=True)
    assert allowed.returncode == 0, allowed.stdout + allowed.stderr
    assert "1 passed" in allowed.stdout


GOOD = "{'units': 'percent', 'metrics': ['l2'], 'components': ['mlp']}"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "cannot be imported: module 'm' has no attribute 'f'"),
        ("f = 3", "is a int, not a function"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("def f(:", "cannot be imported: SyntaxError"),
        ("def f(model): ...", "has no argument clean, corrupted, component, layers, metric"),
        ("def f(**about): ...", "m:f.harness is missing: a dict of units, metrics"),
        ("def f(**about): ...\nf.harness = {'units': 'percent'}", "says nothing of metrics, components"),
        (f"def f(**about): ...\nf.harness = {GOOD} | {{'units': 'permille'}}", "units: Input should be 'percent'"),
        (f"def f(**about): ...\nf.harness = {GOOD} | {{'colour': 'red'}}", "colour: Extra inputs are not permitted"),
    ],
    ids=[
        "no such name",
        "no function",
        "raises",
        "no Python",
        "arguments",
        "no declaration",
        "half a declaration",
        "unit",
        "unknown key",
    ],
)
def test_a_function_that_is_no_engine_is_refused_with_the_reason(folder, source, said):
    written(folder, "m.py", source)
    with pytest.raises(UsageError, match=re.escape(said)):
        engine_named("m:f", allow_code=True)


@pytest.mark.parametrize(
    ("returned", "status", "text"),
    [
        ("{0: 0.5, 1: 0.25, 2: 0, 3: 1}", "failed", "ORC002"),
        ("[1, 2]", "failed", "ENG001"),
        ("{}", "failed", "ATR004"),
        ("{0: None, 1: None, 2: None, 3: None}", "failed", "ORC002"),
    ],
    ids=["numbers", "a list", "nothing", "undefined"],
)
def test_what_a_function_returns_is_read_or_named(folder, returned, status, text):
    written(folder, "m.py", f"def f(**about): return {returned}\nf.harness = {GOOD}\n")
    written(folder, "c.case.yaml", "models: [dial-tiny-f32]\nengines: ['m:f']\nprompts: {clean: [0], corrupted: [1]}\n"
            "sweep: {components: [mlp]}\nmetrics: [l2]\n")  # fmt: skip
    assert exit_code_of(["run", "--allow-code", "--json", "out.json", "c.case.yaml"]) == 1
    (job,) = read(Path("out.json")).jobs
    assert job.status == status
    codes = {finding.code for finding in job.findings}
    # A function that never runs the model shows nothing of its own: what is wrong with its numbers stays open.
    assert text in codes or "ATR006" in codes


def test_verbose_shows_what_an_engine_printed(folder, capsys):
    written(folder, "m.py", f"def f(**about):\n    print('hello')\n    return {{}}\nf.harness = {GOOD}\n")
    written(folder, "c.case.yaml", "models: [dial-tiny-f32]\nengines: ['m:f']\nprompts: {clean: [0], corrupted: [1]}\n"
            "sweep: {components: [mlp]}\nmetrics: [l2]\n")  # fmt: skip
    exit_code_of(["run", "--allow-code", "c.case.yaml"])
    assert "hello" not in capsys.readouterr().out
    exit_code_of(["run", "--allow-code", "-v", "c.case.yaml"])
    assert "c[m:f@dial-tiny-f32] printed\n  hello" in capsys.readouterr().out


def test_two_engines_are_compared_metric_and_patching_apart(folder, capsys):
    written(folder, "mypatch.py", PYTHON[0])
    written(folder, "mine.case.yaml", CASE)
    exit_code_of(["run", "--allow-code", "mine.case.yaml"])
    out = capsys.readouterr().out
    assert "against native, in points" in out
    # Stepwise is asked of single rows, where another BLAS may sum in another order.
    assert re.search(r"mypatch:patch\s+mlp\s+l2\s+\S+\s+(0|\d\.\de-0[5-9])\b", out), out


LINES = [
    ("names", "llama", 'metric != "l2" or ', ""),
    ("lengths", "dial-tiny-f32", " or len(clean) != len(corrupted)", ""),
    ("undefined", "llama", "if baseline else None", "if baseline else 0.0"),
    ("after-error", "llama", "finally:", "except ZeroDivisionError:"),
    ("answers", "dial-suppressed-f16", "a[differs] - b[differs]", "a - b"),
    ("scale", "dial-huge-f32", ".astype(np.float64)", ""),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("law", "row", "line", "other"), LINES, ids=[law for law, *_ in LINES])
def test_every_line_of_the_documented_example_has_its_law(folder, law, row, line, other):
    (row,) = rows_named([row])
    assert line in PYTHON[0]
    for name, source, status in (("sound", PYTHON[0], PASS), ("broken", PYTHON[0].replace(line, other), FAIL)):
        written(folder, f"{name}.py", source)
        (cell,) = row_cells(engine_named(f"{name}:patch", allow_code=True), row, [LAWS[law]])
        assert cell.status == status, cell.text
