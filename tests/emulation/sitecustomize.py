"""With this folder on PYTHONPATH, a Python process computes on the MLX that EMULATE describes (`accelerator.py`)."""

import os

if os.environ.get("EMULATE"):
    os.environ.setdefault("MLX_ENABLE_TF32", "0")  # MLX is imported here, before the harness can set this
    import accelerator

    accelerator.Emulation.of(os.environ["EMULATE"]).install()
