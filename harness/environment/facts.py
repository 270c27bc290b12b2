"""What machine and which versions a result comes from."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from functools import cache

from harness.support import blas
from harness.support.version import VERSION
from harness.vocabulary import Environment
from harness.vocabulary.backends import CPU, CPU_ARM64, CUDA, METAL
from harness.vocabulary.errors import UsageError

_PACKAGES = ("mlx", "mlx-lm", "numpy", "pytest", "pytest-xdist", "syrupy", "transformers", "tokenizers")


@cache
def environment() -> Environment:
    """Describe this process: versions, operating system, MLX's backend and device."""
    return Environment(
        harness=VERSION,
        python=platform.python_version(),
        platform=platform.platform(terse=True) + " " + platform.machine(),
        backend=backend(),
        device=_device_name(),
        packages={
            **{name: version for name in _PACKAGES if (version := package_version(name))},
            # The backend was asked for above, so that MLX and its BLAS are loaded.
            "BLAS": blas.in_use(),
        },
    )


DEVICES = ("cpu", "gpu")
VARIABLE = "HARNESS_DEVICE"
"""What names the device in place of `--device`, here and in every process that this one starts."""


def use_device(name: str, said: str = "--device ") -> None:
    """Let MLX compute on `cpu` or `gpu` from now on, in this process and in those that it starts.

    `said` is how the device was asked for. Raises UsageError where there is no such device.
    """
    import mlx.core as mx

    if name not in DEVICES:
        raise UsageError(f"{said}{name}: expected {' or '.join(DEVICES)}")
    device = {"cpu": mx.cpu, "gpu": mx.gpu}[name]
    if not mx.is_available(device):
        raise UsageError(f"{said}{name}: MLX has no {name} here")
    mx.set_default_device(device)
    os.environ[VARIABLE] = name
    environment.cache_clear()


def use_wanted_device(name: str | None = None) -> None:
    """Use a device, or else the one that the environment names, if any. Raises UsageError as `use_device` does."""
    if name:
        use_device(name)
    elif name := os.environ.get(VARIABLE):
        use_device(name, f"{VARIABLE}=")


def settle_device() -> None:
    """Wait for the device, so that an evaluation that failed says so now and not to whoever comes next."""
    import mlx.core as mx

    mx.synchronize()
    for _ in range(2):  # what a command buffer had to say is raised by a later evaluation
        mx.eval(mx.zeros(1) + 1)


def backend() -> str:
    """Return the name snapshots are kept under: `cpu`, `cpu-arm64`, `metal` or `cuda`, as MLX's default device says.

    An ARM processor is a backend of its own: MLX computes half precision there with other kernels than on x86-64.
    """
    import mlx.core as mx

    if mx.default_device() == mx.cpu:
        return CPU_ARM64 if platform.machine().lower() in ("arm64", "aarch64") else CPU
    return METAL if mx.metal.is_available() else CUDA


def package_version(name: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device_name() -> str:
    import mlx.core as mx

    info = mx.device_info()
    return str(info.get("device_name") or info.get("architecture") or platform.processor() or mx.default_device())
