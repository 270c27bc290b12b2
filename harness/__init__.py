"""mlx-patch-harness: diagnostic and regression tests for activation patching on MLX.

The public API loads on first use, so that importing the package costs neither mlx nor mlx_lm.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from harness.support import blas
from harness.support.version import VERSION

# Both must come before MLX is imported. M5 GPUs multiply float32 at about 11 bits unless told otherwise, and MLX reads
# this once, when it starts.
os.environ.setdefault("MLX_ENABLE_TF32", "0")
blas.prefer_optimised()

if TYPE_CHECKING:
    from harness.api import InterpretableModel, PatchingResult, activation_patching, recommend_metric
    from harness.diagnosis import diagnose
    from harness.vocabulary.errors import Unsupported

__version__ = VERSION
__all__ = [
    "InterpretableModel",
    "PatchingResult",
    "Unsupported",
    "__version__",
    "activation_patching",
    "diagnose",
    "recommend_metric",
]


_HOMES = {"diagnose": "harness.diagnosis", "Unsupported": "harness.vocabulary.errors"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module(_HOMES.get(name, "harness.api")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
