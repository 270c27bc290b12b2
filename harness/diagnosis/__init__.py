"""Diagnosis: from a symptom (`nan%`, `!!!!`, `Baseline distance: inf`) to the first place and the cause.

A sequence of eight steps, cheapest and most basic first: the table STEPS in `steps.py`. Each asks one question, and an
answer makes the later ones unnecessary, because what they would see follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.diagnosis.outcome.diagnosis import Diagnosis
from harness.diagnosis.outcome.nouns import Frame, Place, PlacedFinding, StepResult

Prompt = str | Sequence[int]

if TYPE_CHECKING:
    from harness.engines import Engine

__all__ = ["Diagnosis", "Frame", "Place", "PlacedFinding", "Prompt", "StepResult", "diagnose"]


def diagnose(
    model: Any = None,
    tokenizer: Any = None,
    *,
    prompt: Prompt | None = None,
    clean: Prompt | None = None,
    corrupted: Prompt | None = None,
    component: str | None = None,
    metric: str | None = None,
    engine: str | Engine | Callable[..., Any] = "native",
    allow_code: bool = False,
    answers: tuple[Any, Any] | None = None,
    logits: tuple[Any, Any] | None = None,
    before: str | Path | None = None,
    dtype: str | None = None,
    compare_compile: bool = False,
    compare_device: str | None = None,
    lengths: tuple[int, int] | None = None,
    repeat: int = 1,
    reference: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Diagnosis:
    """Return where the first fault is, what it is, and what to do.

    `model` is an `nn.Module`, a `LoadedModel`, an mlx-lm folder, the id of a model of the table, or a repository of the
    hub; `dtype` casts it. Prompts are text or token ids: `prompt` alone asks about one forward pass, `clean` and
    `corrupted` about patching `component` (default `mlp_out`, or `attn_out` where there is none) under `metric`
    (default `l2`) by `engine`: a name, an `Engine`, or a function of your own, called as `docs/engines.md` says and
    watched while it runs; the name of one, `module:function`, is imported only with `allow_code`, and so is that of a
    metric. `answers` is
    (answer, wrong answer) for `logit_diff` and `log_prob`, each the token after the prompts, as text or as an id.
    `logits` is (clean, corrupted), each `[vocab]` or `[tokens, vocab]`, in place of a model. `before` is a folder
    with the weights that `model` was quantised or cast from.

    `compare_compile`, `compare_device`, `lengths` = (shortest, longest) and `repeat` ask for more runs; `reference` is
    an engine that runs the same folder by an implementation of its own (`transformers`). `progress` is called with
    (what, done, of how many).

    Raises UsageError or PromptError for a request that makes no sense, ModelUnavailable for a model that is not here,
    EngineUnavailable for an engine that is not, or does not claim to do this.
    The model is afterwards what it was before.
    """
    from harness.diagnosis.steps import DiagnosisRequest, diagnosed

    return diagnosed(
        DiagnosisRequest(
            model=model,
            tokenizer=tokenizer,
            prompt=prompt,
            clean=clean,
            corrupted=corrupted,
            component=component,
            metric=metric,
            engine=engine,
            allow_code=allow_code,
            answers=answers,
            logits=logits,
            before=before,
            dtype=dtype,
            compare_compile=compare_compile,
            compare_device=compare_device,
            lengths=lengths,
            repeat=repeat,
            reference=reference,
            progress=progress,
        )
    )
