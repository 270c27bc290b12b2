"""`python -m harness.environment.probe`: which device MLX has here and which models fit on it, for a CI workflow.

A hosted Mac has a paravirtual GPU: it may be absent, end the process at its first kernel, or hold only small models. So
a child process computes something on it first. The answer is printed as lines of GitHub's `GITHUB_OUTPUT`: `device`
(for HARNESS_DEVICE), `models` (the options that select the bundled cases that fit) and `summary`.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass

from harness.support.interpreter import python

SMALL = "--tag groundtruth --tag ladder"
ENOUGH_BYTES = 12 * 2**30
"""What the largest bundled model and its sweep need, with room for the system."""
SECONDS = 120.0
_CHILD = """\
import json
import mlx.core as mx
if not mx.is_available(mx.gpu):
    print(json.dumps({"why": "no GPU here"}))
else:
    mx.set_default_device(mx.gpu)
    square = mx.ones((256, 256)) @ mx.ones((256, 256))
    right = square[0, 0].item() == 256.0 and mx.sum(square).item() == 256.0**3
    info = mx.device_info()
    memory = info.get("max_recommended_working_set_size") or info.get("memory_size") or 0
    print(json.dumps({"name": str(info.get("device_name", "a GPU")), "right": right, "memory": int(memory)}))
"""


@dataclass(frozen=True)
class Probed:
    """The device to compute on, why, and how many bytes the GPU says that it has for this process (0: none)."""

    device: str
    why: str
    memory: int = 0

    @property
    def models(self) -> str:
        """The options that select the cases that fit; none for all of them."""
        return "" if self.memory >= ENOUGH_BYTES else SMALL

    def lines(self) -> list[str]:
        chosen = f"small models ({self.models})" if self.models else "all models"
        return [f"device={self.device}", f"models={self.models}", f"summary={self.device} ({self.why}), {chosen}"]


def probed(code: str = _CHILD, seconds: float = SECONDS) -> Probed:
    """Let a child process compute on the GPU, and return what is known then, however the child ended."""
    try:
        done = subprocess.run(python("-c", code), capture_output=True, text=True, errors="replace", timeout=seconds)
    except subprocess.TimeoutExpired:
        return Probed("cpu", f"the GPU gave no answer in {seconds:g} s")
    if done.returncode < 0:
        return Probed("cpu", f"the GPU's first kernel ended the process by signal {-done.returncode}")
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return Probed("cpu", f"the GPU fails: {said[-1]}")
    told = json.loads(done.stdout)
    if "why" in told:
        return Probed("cpu", told["why"])
    if not told["right"]:
        return Probed("cpu", f"{told['name']} multiplies wrongly")
    return Probed("gpu", f"{told['name']}, {told['memory'] / 2**30:.1f} GiB", told["memory"])


if __name__ == "__main__":
    print(*probed().lines(), sep="\n")
