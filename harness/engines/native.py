"""The harness's own numbers: float64 on the host (`harness.metrics`), and a state wherever there is no number."""

from __future__ import annotations

from harness.engines.formula import Engine

NATIVE = Engine("native", "float64 on the host; undefined is a state, never a number")
