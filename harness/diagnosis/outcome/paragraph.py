"""The diagnosis in one paragraph: place, cause, evidence, remedy, confidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.diagnosis.outcome.nouns import PlacedFinding, StepResult
from harness.vocabulary.verdict import fails


def paragraph(
    subject: Mapping[str, Any],
    cause: PlacedFinding | None,
    findings: Sequence[PlacedFinding],
    steps: Sequence[StepResult],
) -> str:
    """Return the paragraph that a person pastes into an issue; `cause` is the first error of the findings, if any."""
    if cause is None:
        return f"{_subject(subject)}No fault found. {_looked_at(steps)}{_warnings(findings)}"
    fault = f", {cause.fault} of the fault zoo" if cause.fault else ""
    return (
        f"{_subject(subject)}The first fault is in {cause.place}. {_sentence(cause.kind.title)} ({cause.code}{fault}): "
        f"{_sentence(cause.message)}. {''.join(_others(findings, cause))}{_shadow(steps)}"
        f"Remedy: {cause.hint}. Confidence: {cause.confidence}."
    )


def _subject(given: Mapping[str, Any]) -> str:
    parts = [str(given[key]) for key in ("model", "architecture", "dtype", "quantization") if given.get(key)]
    versions = str(given.get("versions", ""))
    return f"{', '.join(parts)} ({versions}). " if parts and versions else ""


def _others(findings: Sequence[PlacedFinding], cause: PlacedFinding) -> Iterator[str]:
    others = [found for found in findings if found is not cause and fails(found)]
    yield from (f"Also {found.code}: {found.message}. " for found in others[:3])


def _shadow(steps: Sequence[StepResult]) -> str:
    return "".join(f"{_sentence(step.summary)}. " for step in steps if step.name == "shadow" and step.state == "ok")


def _looked_at(steps: Sequence[StepResult]) -> str:
    done = [step.name for step in steps if step.state in ("ok", "warning")]
    return f"Looked at: {', '.join(done)}. " if done else ""


def _warnings(findings: Sequence[PlacedFinding]) -> str:
    return "".join(f"Warning {found.code}: {found.message}. " for found in findings)


def _sentence(text: str) -> str:
    text = text.rstrip(".")
    # The name of a module stays as it is written.
    return text[:1].upper() + text[1:] if text.split(" ")[0].isalpha() else text
