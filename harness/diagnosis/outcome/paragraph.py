"""The diagnosis in one paragraph: place, cause, evidence, remedy, confidence."""

from __future__ import annotations

from harness.diagnosis.outcome.nouns import Diagnosis, Observation
from harness.vocabulary.findings import FINDINGS


def paragraph(diagnosis: Diagnosis) -> str:
    """Return the paragraph that a person pastes into an issue."""
    cause = diagnosis.cause
    subject = _subject(diagnosis)
    if cause is None:
        return f"{subject}No fault found. {_looked_at(diagnosis)}{_warnings(diagnosis)}"
    fault = f", {cause.fault} of the fault zoo" if cause.fault else ""
    return (
        f"{subject}The first fault is in {cause.place}. {_sentence(FINDINGS[cause.code].title)} ({cause.code}{fault}): "
        f"{_sentence(cause.message)}. {_others(diagnosis, cause)}{_shadow(diagnosis)}"
        f"Remedy: {cause.hint}. Confidence: {cause.confidence}."
    )


def _subject(diagnosis: Diagnosis) -> str:
    given = diagnosis.subject
    parts = [str(given[key]) for key in ("model", "architecture", "dtype", "quantization") if given.get(key)]
    versions = str(given.get("versions", ""))
    return f"{', '.join(parts)} ({versions}). " if parts and versions else ""


def _others(diagnosis: Diagnosis, cause: Observation) -> str:
    others = [found for found in diagnosis.findings if found is not cause and found.is_error]
    return "".join(f"Also {found.code}: {found.message}. " for found in others[:3])


def _shadow(diagnosis: Diagnosis) -> str:
    return "".join(
        f"{_sentence(rung.summary)}. " for rung in diagnosis.rungs if rung.name == "shadow" and rung.state == "ok"
    )


def _looked_at(diagnosis: Diagnosis) -> str:
    done = [rung.name for rung in diagnosis.rungs if rung.state in ("ok", "warning")]
    return f"Looked at: {', '.join(done)}. " if done else ""


def _warnings(diagnosis: Diagnosis) -> str:
    return "".join(f"Warning {found.code}: {found.message}. " for found in diagnosis.findings)


def _sentence(text: str) -> str:
    text = text.rstrip(".")
    # The name of a module stays as it is written.
    return text[:1].upper() + text[1:] if text.split(" ")[0].isalpha() else text
