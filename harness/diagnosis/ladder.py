"""The ladder: which rungs there are, in which order, and when to stop climbing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.diagnosis.outcome import Diagnosis


@dataclass(frozen=True)
class Request:
    """What was asked, as `diagnose` was called."""

    model: Any
    tokenizer: Any
    prompt: Any
    clean: Any
    corrupted: Any
    component: str | None
    metric: str | None
    engine: Any
    logits: Any
    before: Any
    dtype: str | None
    compare_compile: bool
    compare_device: str | None
    lengths: tuple[int, int] | None
    repeat: int
    progress: Any


def climb(request: Request) -> Diagnosis:
    """Climb the ladder."""
    raise NotImplementedError
