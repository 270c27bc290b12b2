"""`harness diagnose` as a user types it: the paragraph, the files it writes, the exit codes."""

from __future__ import annotations

import io
import json

import mlx.core as mx
import numpy as np
import pytest
from planting import build, put, save_folder

from harness.cli import exit_code_of
from harness.models import bundled, load

NAN = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def say(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*args):
        code = exit_code_of(["diagnose", *map(str, args)])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def with_nan(tensors):
    tensors[NAN] = put(tensors[NAN], ((3, 17), np.nan))


def test_a_clean_folder_ends_with_0_and_a_broken_one_with_1(say, tmp_path):
    clean = save_folder(build(dtype="float32"), tmp_path / "clean")
    assert say("--model", clean, "--prompt-ids", "1,5,6")[0] == 0
    code, out, _ = say(
        "--model", save_folder(build(dtype="float32"), tmp_path / "bad", with_nan), "--prompt-ids", "1,5,6"
    )
    assert code == 1
    paragraph = out.splitlines()[0]
    for part in (NAN, "row 3, column 17", "(DIA101, F15, proven)", "**Remedy:**"):
        assert paragraph.count(part) == 1


def test_arrays_of_every_format_are_read(say, tmp_path):
    clean = np.zeros(151_936, np.float16)
    corrupted = clean + np.float16(0.75)
    corrupted[::2] = -0.75
    np.save(tmp_path / "a.npy", clean)
    np.savez(tmp_path / "a.npz", clean=clean)
    mx.save_safetensors(str(tmp_path / "a.safetensors"), {"clean": mx.array(clean)})
    np.save(tmp_path / "b.npy", corrupted)
    for ending in ("npy", "npz", "safetensors"):
        code, out, _ = say("--logits", f"a.{ending}", "b.npy")
        assert code == 1
        # The closed form: 0.75 times the root of 151,936.
        assert f"{0.75 * 151_936**0.5:.6g}" in out
        assert "255.97" in out


def test_the_saved_case_of_the_report_fails_on_legacy_and_passes_on_native(say, tmp_path, capsys):
    prompts = ("--clean", "a", "--corrupted", "b")
    args = ("--model", "dial-152k-f16", *prompts, "--engine", "legacy", "--component", "mlp")
    code, out, _ = say(*args, "--save-case", "issue-1.case.yaml", "--json", "d.json")
    assert code == 1
    assert "harness run issue-1.case.yaml --engine legacy  fails, and with --engine native it passes" in out
    document = json.loads((tmp_path / "d.json").read_text())
    assert (document["verdict"], document["findings"][0]["fault"]) == ("fault", "F01")
    assert exit_code_of(["run", "issue-1.case.yaml", "--engine", "legacy"]) == 1
    assert exit_code_of(["run", "issue-1.case.yaml", "--engine", "native"]) == 0
    capsys.readouterr()


def test_the_saved_case_of_a_range_fails_in_one_dtype_and_passes_in_the_other(say, tmp_path, capsys):
    def overflowing(tensors):
        for name in ("gate", "up"):
            key = f"model.layers.1.mlp.{name}_proj.weight"
            tensors[key] = tensors[key] * 300

    folder = save_folder(build(dtype="bfloat16"), tmp_path / "m", overflowing)
    ids = ("--clean-ids", "1,5,6", "--corrupted-ids", "2,5,6")
    code, out, _ = say("--model", folder, *ids, "--dtype", "float16", "--save-case", "range.case.yaml")
    assert code == 1
    assert "DIA204, F09" in out
    assert (tmp_path / "range.models.yaml").is_file()
    run = ["run", "range.case.yaml", "--models", "range.models.yaml", "--model"]
    assert exit_code_of([*run, "range-float16"]) == 1
    assert exit_code_of([*run, "range-bfloat16"]) == 0
    capsys.readouterr()


def test_the_saved_case_of_a_broken_folder_fails_until_it_is_repaired(say, tmp_path, capsys):
    save_folder(build(dtype="float32"), tmp_path / "m", with_nan)
    ids = ("--clean-ids", "1,5,6", "--corrupted-ids", "2,5,6")
    code, out, _ = say("--model", "m", *ids, "--save-case", "nan.case.yaml")
    assert code == 1
    assert "case: harness run nan.case.yaml --models nan.models.yaml  fails until the model is repaired" in out
    run = ["run", "nan.case.yaml", "--models", "nan.models.yaml"]
    assert exit_code_of(run) == 1
    save_folder(build(dtype="float32"), tmp_path / "m")
    assert exit_code_of(run) == 0
    capsys.readouterr()


def test_the_saved_case_of_a_model_of_ones_own_table_names_its_source(say, tmp_path, capsys):
    save_folder(build(dtype="float32"), tmp_path / "m", with_nan)
    (tmp_path / "mine.yaml").write_text("models:\n  - {id: mine, source: path, path: m}\n")
    ids = ("--clean-ids", "1,5,6", "--corrupted-ids", "2,5,6")
    code, out, _ = say("--model", "mine", "--models", "mine.yaml", *ids, "--save-case", "own.case.yaml")
    assert code == 1
    assert "fails until the model is repaired" in out
    assert exit_code_of(["run", "own.case.yaml", "--models", "own.models.yaml"]) == 1
    capsys.readouterr()


def test_the_saved_case_of_unequal_prompts_does_not_blame_the_model(say, tmp_path):
    save_folder(build(dtype="float32"), tmp_path / "m")
    ids = ("--clean-ids", "1,5,6", "--corrupted-ids", "2,5,6,7")
    out = say("--model", "m", *ids, "--save-case", "unequal.case.yaml")[1]
    assert "fails until the prompts are of equal length" in out


def with_nan_that_nobody_reads(tensors):
    tensors["model.embed_tokens.weight"] = put(tensors["model.embed_tokens.weight"], ((400, 2), np.nan))


@pytest.mark.parametrize(
    ("change", "corrupted"), [(with_nan_that_nobody_reads, "2,5,6"), (None, "1,5,6")], ids=["unread", "same prompt"]
)
def test_a_case_that_would_pass_is_not_saved(say, tmp_path, change, corrupted):
    save_folder(build(dtype="float32"), tmp_path / "m", change)
    ids = ("--clean-ids", "1,5,6", "--corrupted-ids", corrupted)
    code, out, _ = say("--model", "m", *ids, "--save-case", "x.case.yaml")
    assert code == 1
    assert "no case was written: a run of it passes" in out
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m"]


def test_the_trail_is_drawn(say, tmp_path):
    pytest.importorskip("matplotlib")
    folder = save_folder(build(dtype="float32"), tmp_path / "m")
    assert say("--model", folder, "--prompt-ids", "1,5,6", "--plot", "trail.png")[0] == 0
    assert (tmp_path / "trail.png").read_bytes().startswith(b"\x89PNG")


def test_the_whole_trail_is_printed_when_asked_for(say, tmp_path):
    folder = save_folder(build(dtype="float32"), tmp_path / "m")
    short, whole = (say("--model", folder, "--prompt-ids", "1,5,6", *more)[1] for more in ((), ("--trail",)))
    assert "layers.3" in whole.replace("\n", "")
    assert len(whole.splitlines()) > len(short.splitlines()) + 50


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "give a model, or logits"),
        (("--model", "qwen3-152k-f61", "--prompt", "x"), "did you mean 'qwen3-152k-f16'"),
        (("--model", "dial-152k-f32", "--prompt-ids", "1,x"), "'1,x' is not a list of whole numbers"),
        (("--model", "dial-152k-f32", "--prompt", "a", "--prompt-ids", "1"), "and not both"),
        (("--model", "dial-152k-f32", "--prompt-ids", "1", "--lengths", "a..b"), "'a..b' is not a range"),
        (("--model", "dial-152k-f32", "--prompt-ids", "1", "--lengths", "9..2"), "lengths 9..2"),
        (("--model", "dial-152k-f32", "--prompt-ids", "1", "--json", "no/such/d.json"), "does not exist"),
        (("--logits", "a.txt", "b.txt"), "is not a format of arrays"),
        (("--logits", "a.npy", "b.npy"), "a.npy: does not exist"),
        (("--model", "dial-152k-f32", "--prompt-ids", "1", "--repeat", "0"), "repeat is 0"),
    ],
    ids=lambda value: " ".join(value)[:40].replace("/", "-") if isinstance(value, tuple) else None,
)
def test_bad_input_ends_with_4_and_one_line(say, args, said):
    code, _, err = say(*args)
    assert code == 4
    assert said in err
    assert "Traceback" not in err


REPORT = "Baseline l2 distance: inf\nLayer  0: nan% recovery\nLayer 10: nan% recovery\n"


def test_a_pasted_table_is_checked_without_a_model(say, tmp_path, monkeypatch):
    (tmp_path / "issue.txt").write_text(REPORT)
    code, out, _ = say("--numbers", "issue.txt", "--json", "audit.json")
    assert (code, "FIN004 l2: the baseline is inf" in out) == (1, True)
    assert json.loads((tmp_path / "audit.json").read_text())["verdict"] == "failed"
    (tmp_path / "fine.md").write_text("| layer | l2 | mse |\n|---|---|---|\n| 10 | 9.4 % | 17.9 % |\n")
    assert say("--numbers", "fine.md")[0] == 0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(REPORT.encode())))
    assert say("--numbers", "-")[0] == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--numbers", "none.txt"), "none.txt: does not exist"),
        (("--numbers", "empty.txt"), "no baseline and no recovery found"),
        (("--numbers", "empty.txt", "--model", "x"), "leave out --model"),
        (("--numbers", "empty.txt", "--clean", "x"), "leave out --clean"),
        (("--model", "x", "--answer", "a"), "--answer and --wrong come together"),
        (("--model", "x", "--answer-ids", "1"), "is not two ids"),
        (("--model", "x", "--answer", "a", "--wrong", "b", "--answer-ids", "1,2"), "and not both"),
        (("--model", "dial-152k-f16", "--prompt", "a", "--answer-ids", "1,2"), "answers stand after two prompts"),
    ],
)
def test_what_makes_no_sense_is_refused(say, tmp_path, args, message):
    (tmp_path / "empty.txt").write_text("")
    code, _, err = say(*args)
    assert (code, message in err) == (4, True), err


def test_answers_reach_the_metric_and_the_saved_case(say, tmp_path):
    ids = ("--clean-ids", "1,5,6", "--corrupted-ids", "2,5,6", "--metric", "logit_diff")
    save_folder(build(dtype="float32"), tmp_path / "m", with_nan)
    say("--model", "m", *ids, "--answer-ids", "7,9", "--save-case", "x.case.yaml")
    assert "answer: 7\n  wrong: 9\n" in (tmp_path / "x.case.yaml").read_text()
    rows = np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32)
    for name, row in zip("ab", rows, strict=True):
        np.save(tmp_path / f"{name}.npy", row)
    code, out, _ = say("--logits", "a.npy", "b.npy", "--metric", "logit_diff", "--answer-ids", "7,9")
    corrupted = float(rows[1, 7]) - float(rows[1, 9])
    assert (code, f"baseline {corrupted:.6g}" in out) == (0, True), out
    assert "give their ids" in say("--logits", "a.npy", "b.npy", "--metric", "logit_diff")[2]
    assert "ids 0 to 49" in say("--logits", "a.npy", "b.npy", "--metric", "logit_diff", "--answer-ids", "7,50")[2]


METRIC = """import numpy as np


def largest(clean, x):
    return float(np.abs(clean - x).max())


def raising(clean, x):
    raise ZeroDivisionError("planted")


def nothing(clean, x):
    return None
"""


@pytest.fixture
def own_metric(tmp_path):
    """Write the module of a user's metrics, and return what a metric of it is called."""
    name = f"metric_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(METRIC)
    return lambda function: f"{name}:{function}"


def test_a_metric_of_the_users_own_is_taken_where_code_is_allowed(say, own_metric, tmp_path):
    asked = ("--model", "llama-2k-f32", "--clean-ids", "1,2,3", "--corrupted-ids", "1,5,3", "--metric")
    code, _, err = say(*asked, own_metric("largest"))
    assert (code, "runs only with --allow-code; nothing was imported" in err) == (4, True)
    code, out, _ = say(*asked, own_metric("largest"), "--allow-code")
    clean, corrupted = (
        np.array(load(bundled()["llama-2k-f32"]).module(mx.array([ids]))[0, -1]) for ids in ([1, 2, 3], [1, 5, 3])
    )
    assert code == 0
    assert f"{own_metric('largest')} in float64 {np.abs(clean - corrupted).max():.6g}" in " ".join(out.split())
    for name, row in zip("ab", (clean, corrupted), strict=True):
        np.save(tmp_path / f"{name}.npy", row)
    code, out, _ = say("--logits", "a.npy", "b.npy", "--metric", own_metric("largest"), "--allow-code")
    assert (code, f"baseline {np.abs(clean - corrupted).max():.6g}" in out) == (0, True)


def test_a_metric_of_the_users_own_is_blamed_for_what_it_raises_and_for_no_value(say, own_metric, tmp_path):
    asked = ("--model", "llama-2k-f32", "--clean-ids", "1,2,3", "--corrupted-ids", "1,5,3", "--allow-code", "--metric")
    code, out, _ = say(*asked, own_metric("raising"))
    assert (code, f"{own_metric('raising')} raised ZeroDivisionError: planted" in out) == (1, True), out
    code, out, _ = say(*asked, own_metric("nothing"))
    assert (code, "has no value on these runs" in out, "No fault found" in out) == (1, True, False)
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", np.arange(8, dtype=np.float32))
    code, _, err = say("--logits", "a.npy", "b.npy", "--metric", own_metric("raising"), "--allow-code")
    assert (code, "raised ZeroDivisionError: planted" in err) == (4, True), err
    code, _, err = say(*asked, "no_such_module:f")
    assert (code, "cannot be imported" in err) == (4, True)
