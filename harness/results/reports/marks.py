"""How a status or a state looks where there is room for one character: a sign, never colour alone."""

from __future__ import annotations

from collections.abc import Mapping

from harness.vocabulary import Status

SIGN: Mapping[Status, str] = {
    Status.PASSED: "✓",
    Status.FAILED: "✗",
    Status.SKIPPED: "○",
    Status.REFUSED: "⊘",
    Status.CRASHED: "‼",
    Status.INTERRUPTED: "…",
}
