"""The BLAS: an optimised one takes the place of MLX's where it is installed, and every result says which it was."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from harness.support import blas
from harness.support.interpreter import python

MEASURED = """
import json
from harness.environment.doctor import gflops
from harness.environment.facts import environment
print(json.dumps([environment().packages["BLAS"], gflops()]))
"""


_OF_BLAS = (
    "LD_PRELOAD",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MLX_ENABLE_TF32",
    blas.VARIABLE,
)


def measured(script: str = MEASURED, **env: str) -> tuple[str, float]:
    """Return the BLAS that a new process names, and its float32 GFLOP/s."""
    bare = {name: value for name, value in os.environ.items() if name not in _OF_BLAS}
    done = subprocess.run(python("-c", script), env=bare | env, capture_output=True, text=True, timeout=120, check=True)
    name, speed = json.loads(done.stdout)
    return name, speed


def mkl_installed() -> bool:
    return bool(list(Path(sys.prefix, "lib").glob("libmkl_rt.so.*")))


@pytest.mark.skipif(not mkl_installed(), reason="mkl is not installed: it exists for Linux on x86-64 only")
@pytest.mark.as_installed("it is loaded before MLX, and MLX is there already")
class TestInstalled:
    def test_it_multiplies_and_the_result_says_so(self):
        name, fast = measured()
        assert name.startswith("libmkl_rt.so")
        name, stock = measured(HARNESS_BLAS="stock")
        assert name.endswith("(the reference one)")
        assert fast > 5 * stock

    def test_it_comes_too_late_for_an_mlx_that_is_there(self):
        name, _ = measured("import mlx.core" + MEASURED)
        assert name.endswith("(the reference one)")

    @pytest.mark.parametrize(
        ("chosen", "threads"), [({}, 1), ({"MKL_NUM_THREADS": "2"}, 2)], ids=["ours", "the user's"]
    )
    def test_it_has_one_thread_unless_the_user_says_otherwise(self, chosen, threads):
        """Nothing is said to other libraries of the process, which read the same variables."""
        file = next(Path(sys.prefix, "lib").glob("libmkl_rt.so.*"))
        script = (
            f"import ctypes, json, os; before = dict(os.environ); import harness; lib = ctypes.CDLL({str(file)!r})\n"
            "changed = {key for key in os.environ if before.get(key) != os.environ[key]}\n"
            "print(json.dumps([sorted(changed), lib.MKL_Get_Max_Threads()]))"
        )
        assert measured(script, MKL_DYNAMIC="FALSE", **chosen) == (["MLX_ENABLE_TF32"], threads)

    def test_one_that_the_user_preloads_stays_alone(self):
        mkl = str(next(Path(sys.prefix, "lib").glob("libmkl_rt.so.*")))
        name, _ = measured(LD_PRELOAD=mkl)
        assert name == Path(mkl).name


@pytest.fixture
def asked(monkeypatch, tmp_path) -> list[str]:
    """Record which libraries are asked for, in a process that has not imported MLX. None can be loaded."""
    libraries: list[str] = []

    def refused(name: str, mode: int) -> None:
        assert mode == ctypes.RTLD_GLOBAL
        libraries.append(name)
        raise OSError(name)

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.delitem(sys.modules, "mlx.core")
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    monkeypatch.delenv(blas.VARIABLE, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", refused)
    return libraries


def test_the_systems_library_is_the_second_choice_and_none_is_no_error(asked, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libmkl_rt.so.3").touch()
    blas.prefer_optimised()
    assert asked == [str(tmp_path / "lib" / "libmkl_rt.so.3"), "libopenblas.so.0"]


@pytest.mark.parametrize("variable", [("HARNESS_BLAS", "stock"), ("LD_PRELOAD", "/opt/lib/libopenblas.so.0")])
def test_what_the_user_chose_is_left_alone(asked, monkeypatch, variable):
    monkeypatch.setenv(*variable)
    blas.prefer_optimised()
    assert asked == []


def test_another_system_has_its_own(asked, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    blas.prefer_optimised()
    assert asked == []
    assert blas.in_use() == "Accelerate"


def test_what_is_advised_depends_on_the_processor(monkeypatch):
    monkeypatch.delenv(blas.VARIABLE, raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert blas.advice().endswith(" -m pip install mkl")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert blas.advice() == "apt-get install libopenblas0"
    monkeypatch.setenv(blas.VARIABLE, "stock")
    assert blas.advice() == "unset HARNESS_BLAS"


@pytest.mark.parametrize(
    ("files", "shown"),
    [
        (["/v/mlx_cpu.libs/libblas-1.so.3", "/v/lib/libmkl_rt.so.3"], "libmkl_rt.so.3"),
        (["/v/mlx_cpu.libs/libblas-1.so.3", "/usr/lib/libopenblas.so.0"], "libopenblas.so.0"),
        (["/v/numpy.libs/libopenblas64_-1.so", "/v/mlx_cpu.libs/libblas-1.so.3"], "libblas-1.so.3 (the reference one)"),
        ([], "unknown"),
    ],
    ids=["mkl", "openblas", "NumPy's own is not MLX's", "nothing to see"],
)
def test_the_blas_is_named(monkeypatch, files, shown):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(blas, "_loaded_libraries", lambda: [Path(file) for file in files])
    assert blas.in_use() == shown
