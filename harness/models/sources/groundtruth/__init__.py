"""Models whose recoveries are known in closed form: the ruler the harness measures engines with.

    dial            a module of our own; a token selects a row of logits, each block replaces a share of it
    circuit         real mlx-lm classes; a subject travels along one known path, linearly
    gated-circuit   the same with one multiplicative MLP, which tells denoising from noising

What is known is derived from the row of the model table alone, never by running the model, and it is exact: a row whose
numbers the dtype would round is refused with the reason.
"""

from __future__ import annotations

from harness.models.loaded import LoadedModel
from harness.models.spec import CircuitRow, DialRow


def load(row: DialRow | CircuitRow) -> LoadedModel:
    """Build the model of a row, with its answers.

    Raises UsageError where the dtype cannot hold the row's numbers exactly, and ModelUnavailable where MLX cannot
    run the architecture in this dtype on this device.
    """
    if isinstance(row, DialRow):
        from harness.models.sources.groundtruth import dial

        return dial.load(row)
    from harness.models.sources.groundtruth import circuit

    return circuit.load(row)
