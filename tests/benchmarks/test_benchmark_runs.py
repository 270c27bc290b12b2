"""The benchmark runs on tiny models, keeps its environment, and refuses to call a wrong sweep fast."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    # The torch tools and mlxterp take seconds to import where they happen to be installed.
    others = ("--without", "torch hooks", "TransformerLens", "mlxterp")
    command = [sys.executable, str(FOLDER / "sweep.py"), "--quick", "--rounds", "1", *args, *others]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory):
    file = tmp_path_factory.mktemp("bench") / "quick.json"
    done = bench("--out", str(file))
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text()), done.stdout


def test_the_results_say_where_they_come_from(measured):
    content, shown = measured
    assert {"harness", "python", "platform", "backend", "device", "packages"} <= set(content["environment"])
    assert content["machine"]["blas"]
    assert content["machine"]["gflops"] > 0.1
    assert content["machine"]["gigabytes_per_second"] > 0.1
    assert content["machine"]["blas"] in shown
    assert "6 tokens, the first 4 alike" in shown


def test_every_kind_of_setting_is_measured(measured):
    content, shown = measured
    assert {result["group"] for result in content["settings"]} == {
        "main",
        "prefix",
        "grid",
        "metrics",
        "components",
        "trail",
        "diagnosis",
        "growth",
    }
    for result in content["settings"]:
        for name, found in result["contenders"].items():
            assert found["wall_median"] > 0, (result["id"], name)
            assert found["cpu_median"] > 0, (result["id"], name)
            assert found["mlx_bytes_above"] > 0, (result["id"], name)
        if result["group"] not in ("main", "prefix"):
            assert f"| {result['id']} |" in shown


def test_every_sweep_gives_the_stepwise_logits(measured):
    content, _ = measured
    apart = {
        (result["id"], name): found["difference"]
        for result in content["settings"]
        for name, found in result["contenders"].items()
        if found["difference"] is not None
    }
    assert ("qwen3-4", "2L+2 forwards") in apart
    assert ("grid-3", "grid") in apart
    assert max(apart.values()) <= 1e-5


def test_the_ratio_is_that_of_the_walls(measured):
    content, _ = measured
    found = next(result for result in content["settings"] if result["id"] == "qwen3-4")["contenders"]
    for name, each in found.items():
        # One round: the median of ratios is the ratio.
        assert each["times_the_first"] == pytest.approx(each["wall"][0] / found["one-pass"]["wall"][0]), name


@pytest.mark.as_installed("a proof is remembered of MLX as it was installed")
def test_who_is_absent_is_named(measured):
    content, shown = measured
    absent = next(result for result in content["settings"] if result["id"] == "qwen3-4")["absent"]
    assert set(absent) == {"mlxterp", "torch hooks", "TransformerLens"}
    assert "- qwen3-4: without mlxterp: left out by --without" in shown


def test_the_roofline_is_below_what_was_taken(measured):
    content, _ = measured
    for result in content["settings"]:
        if result["roofline"]:
            assert 0 < result["roofline"]["share"] <= 1, result["id"]


def test_an_unknown_setting_is_refused_with_the_known_ones(tmp_path: Path):
    done = bench("--only", "qwen4", "--out", str(tmp_path / "none.json"))
    assert done.returncode == 1
    assert "no setting is called qwen4; there are qwen3-4, " in done.stderr
    assert not (tmp_path / "none.json").exists()


@pytest.fixture
def contenders(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import contenders

    return contenders


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [([[1.0, 4.0], [2.0, 8.0]], 0.0), ([[1.0, 4.0], [2.0, 6.0]], 0.25), ([[1.0, 4.0]], float("inf"))],
    ids=["the same", "two of eight apart", "a row is missing"],
)
def test_the_difference_is_a_share_of_the_largest_logit(contenders, rows, wanted):
    assert contenders.difference([[1.0, 4.0], [2.0, 8.0]], rows) == wanted


def test_a_wrong_sweep_fails_the_benchmark(monkeypatch: pytest.MonkeyPatch, contenders):
    import sweep

    good = {"contenders": {"one-pass": {"difference": 1e-6}, "torch hooks": {"difference": 1e-3}}}
    assert sweep.agrees(good)
    assert not sweep.agrees({"contenders": {"one-pass": {"difference": 2e-5}}})


def test_the_products_of_a_walk_are_counted(contenders):
    """L layers of n weights see 2, 3, ... L+1 rows a token, and the last MLP sees L+1 rows once; but for two rows that
    the last layer computes by way of trial. The head sees L+2 rows once."""
    from machine import products
    from settings import qwen3

    from harness.models import load

    layers, tokens, width, vocab = 3, 5, 64, 512
    loaded = load(qwen3("q", {}, layers=layers, vocab=vocab))
    # q and o are 64 x 64, k and v 32 x 64, three matrices of the MLP 128 x 64.
    attention, mlp = 2 * width * width + 2 * (width // 2) * width, 3 * 2 * width * width
    last = attention * tokens * 4 + mlp * 4 + (attention + mlp) * tokens * 2
    wanted = (attention + mlp) * tokens * (2 + 3) + last + vocab * width * (layers + 2)
    assert sum(layer.weight.size * rows for layer, rows in products(loaded, tokens)) == wanted


def checkout(folder: Path, script: str) -> Path:
    """Return a folder whose `.venv` has a script for an interpreter."""
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    python.chmod(0o755)
    return folder


def test_whole_commands_are_timed_beside_an_older_checkout(tmp_path: Path):
    root, out = FOLDER.parent, tmp_path / "waits.json"
    older = checkout(tmp_path / "older", f'exec "{sys.executable}" "$@"')
    command = [sys.executable, str(FOLDER / "waits.py"), "--rounds", "2", "--only", "help", "--out", str(out)]
    done = subprocess.run([*command, "--before", str(older)], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (wait,) = json.loads(out.read_text())["waits"]
    assert wait["now"] > 0 < wait["before"]
    assert 0.1 < wait["times"] < 10
    assert "| help | " in done.stdout


def test_a_command_that_goes_wrong_has_no_time(tmp_path: Path):
    """The older checkout lacks an interpreter that knows the harness."""
    out = tmp_path / "waits.json"
    command = [sys.executable, str(FOLDER / "waits.py"), "--rounds", "1", "--only", "help", "--out", str(out)]
    older = checkout(tmp_path / "older", "exit 1")
    done = subprocess.run([*command, "--before", str(older)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    (wait,) = json.loads(out.read_text())["waits"]
    assert "before" not in wait
    assert "times" not in wait
