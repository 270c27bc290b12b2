"""The library that multiplies matrices on the CPU: an optimised one where it is installed.

MLX's Linux wheel brings the reference BLAS, which reaches 1 to 3 GFLOP/s on a core where MKL reaches 40 to 160. MLX
looks its functions up by name and takes the first library that has them, so an optimised one that is loaded before MLX
is imported serves in its place. `import harness` does that, and `HARNESS_BLAS=stock` prevents it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

VARIABLE, STOCK = "HARNESS_BLAS", "stock"

_OPTIMISED = ("libmkl_rt", "libopenblas", "libblis")
_REFERENCE = "(the reference one)"
_SYSTEMS = "libopenblas.so.0"
"""The distribution's OpenBLAS, which the dynamic linker finds by its name."""


def prefer_optimised() -> None:
    """Load an optimised BLAS for the whole process, where one is installed and MLX has not been imported yet.

    One thread, unless the user set another number: the products of a sweep are small, pytest-xdist uses the other
    cores, and sums stay in one order.
    """
    preloaded = os.environ.get("LD_PRELOAD", "")
    if (
        sys.platform != "linux"
        or "mlx.core" in sys.modules
        or os.environ.get(VARIABLE) == STOCK
        or any(name in preloaded for name in _OPTIMISED)
    ):
        return
    for file in (*sorted(Path(sys.prefix, "lib").glob("libmkl_rt.so.*")), _SYSTEMS):
        try:
            library = ctypes.CDLL(str(file), mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        _one_thread(library)
        return


def _one_thread(library: ctypes.CDLL) -> None:
    """Tell this library alone: a variable would bind NumPy's and torch's as well, in this process and its children."""
    for variable, function in _THREADS.items():
        if variable not in os.environ and hasattr(library, function):
            getattr(library, function)(1)


_THREADS = {"MKL_NUM_THREADS": "MKL_Set_Num_Threads", "OPENBLAS_NUM_THREADS": "openblas_set_num_threads"}
"""The variable by which a user says the number of threads -> the library's function that does."""


def in_use() -> str:
    """Return the file of the BLAS that MLX multiplies with in this process, as far as the system tells.

    MLX must have been imported.
    """
    if sys.platform == "darwin":
        return "Accelerate"
    loaded = _loaded_libraries()
    for sign in _OPTIMISED:
        # A library that NumPy keeps in a folder of its own answers to names of its own, and MLX never calls it.
        found = [file for file in loaded if file.name.startswith(sign) and ".libs" not in str(file.parent)]
        if found:
            return found[0].name
    bundled = [file.name for file in loaded if file.name.startswith("libblas")]
    return f"{bundled[0]} {_REFERENCE}" if bundled else "unknown"


def is_reference() -> bool:
    """Return whether MLX multiplies with the reference BLAS of its wheel, as far as the system tells."""
    return in_use().endswith(_REFERENCE)


def unheeded() -> str | None:
    """Return what is wrong with the user's choice, which `import harness` cannot refuse; None where it is heeded."""
    chosen = os.environ.get(VARIABLE)
    return None if chosen in (None, "", STOCK) else f"{VARIABLE}={chosen} is not heeded: {STOCK} is all that it may say"


def advice() -> str:
    """Return how an optimised BLAS gets into this environment."""
    if os.environ.get(VARIABLE) == STOCK:
        return f"unset {VARIABLE}"
    # MKL exists for x86 only.
    x86 = platform.machine() in ("x86_64", "AMD64")
    return f"{sys.executable} -m pip install mkl" if x86 else "apt-get install libopenblas0"


def _loaded_libraries() -> list[Path]:
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [Path(path) for path in dict.fromkeys(line.split(maxsplit=5)[-1] for line in lines) if path.startswith("/")]
