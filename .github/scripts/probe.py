"""Say which device MLX has here and which models fit on it, as lines of `GITHUB_OUTPUT`.

A hosted Mac has a paravirtual GPU: it may be absent, fail at the first kernel, or hold only small models. The probe
computes something on it before anything is trusted to it.
"""

from __future__ import annotations

import mlx.core as mx

SMALL = "--tag groundtruth --tag ladder"
ENOUGH_BYTES = 12 * 2**30
"""What the largest bundled model and its sweep need, with room for the system."""


def main() -> None:
    device, why = _device()
    memory = int(mx.device_info().get("max_recommended_working_set_size", 0)) if device == "gpu" else 0
    models = "" if device == "gpu" and memory >= ENOUGH_BYTES else SMALL
    chosen = "all models" if not models else f"small models ({models})"
    print(f"device={device}")
    print(f"models={models}")
    print(f"summary={device} ({why}), {chosen}")


def _device() -> tuple[str, str]:
    if not mx.metal.is_available():
        return "cpu", "no Metal here"
    try:
        square = mx.ones((256, 256)) @ mx.ones((256, 256))
        works = float(square[0, 0].item()) == 256.0
    except RuntimeError as error:
        return "cpu", f"Metal fails: {str(error).splitlines()[0]}"
    name = mx.device_info().get("device_name", "a GPU")
    return ("gpu", str(name)) if works else ("cpu", f"{name} multiplies wrongly")


if __name__ == "__main__":
    main()
