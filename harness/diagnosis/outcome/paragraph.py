"""The diagnosis in one paragraph of Markdown: what, where, the evidence, the remedy. Each fact stands in it once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.diagnosis.outcome.nouns import Place, PlacedFinding, StepResult
from harness.results.reports.markdown import code
from harness.vocabulary.verdict import fails
from harness.vocabulary.visible import visible

MOST_OTHERS = 3
"""Errors beside the first that are told in full."""

_QUOTED = re.compile(r"`[^`]*`")
_MODULE = re.compile(r"(?<![\w`./-])[A-Za-z_]\w*(?:\.\w+)*\.(?:\d+|(?!py\b)[A-Za-z_]\w*)(?![\w(/])")
"""A dotted name of a module or a tensor; a file, a call and a number are none."""


def paragraph(
    subject: Mapping[str, Any],
    cause: PlacedFinding | None,
    findings: Sequence[PlacedFinding],
    steps: Sequence[StepResult],
) -> str:
    """Return the paragraph that a person pastes into an issue; `cause` is the first error of the findings, if any."""
    if cause is None:
        told = f"{_subject(subject)}**No fault found.** {_looked_at(steps)}{''.join(_warnings(findings))}"
    else:
        told = (
            f"{_subject(subject)}{_named(cause)}{also_in(findings, cause)}. {''.join(_others(findings, cause))}"
            f"{_shadow(steps)}**Remedy:** {cause.hint}."
        )
    versions = subject.get("versions")
    return visible(f"{told.rstrip()} ({versions})" if versions else told.rstrip())


def told_in(findings: Sequence[PlacedFinding], cause: PlacedFinding | None) -> list[PlacedFinding]:
    """Return the findings that the paragraph tells in full, and those of the other prompt that are equal to them."""
    if cause is None:
        return list(findings)
    full = [cause, *others(findings, cause)[:MOST_OTHERS]]
    return [found for found in findings if any(_alike(found, each) for each in full)]


def others(findings: Sequence[PlacedFinding], cause: PlacedFinding) -> list[PlacedFinding]:
    """Return the errors beside the first; what both prompts show is one."""
    found: list[PlacedFinding] = []
    for each in findings:
        if fails(each) and not any(_alike(each, known) for known in (cause, *found)):
            found.append(each)
    return found


def also_in(findings: Sequence[PlacedFinding], found: PlacedFinding) -> str:
    """Return the words for the other runs that show the same at the same module, if any."""
    runs = dict.fromkeys(str(each.place.run) for each in findings if each is not found and _alike(each, found))
    runs.pop(str(found.place.run), None)
    return f"; the {' and the '.join(runs)} run shows the same" if runs else ""


def _alike(one: PlacedFinding, other: PlacedFinding) -> bool:
    if one is other:
        return True
    runs = {one.place.run, other.place.run} <= {"clean", "corrupted"}
    return runs and (one.code, one.place.step, one.place.module) == (other.code, other.place.step, other.place.module)


def _subject(given: Mapping[str, Any]) -> str:
    parts = [str(given[key]) for key in ("architecture", "dtype", "quantization") if given.get(key)]
    return f"**{given['model']}** ({', '.join(parts)}): " if given.get("model") and parts else ""


def _named(found: PlacedFinding) -> str:
    """Return what a finding is, where, and its evidence."""
    fault = f", {found.fault}" if found.fault else ""
    message = found.message.rstrip(".")
    if found.place.module:
        message = message.removeprefix(f"{found.place.module}: ")
    where = _place(found.place, message)
    return f"**{found.kind.title}** ({found.code}{fault}, {found.confidence}) in {where}: {_with_names(message)}"


def _place(place: Place, message: str) -> str:
    """Return a place without what the message says of it."""
    parts = [part for part in str(place).split(", ") if not re.search(rf"(?<!\w){re.escape(part)}(?!\w)", message)]
    first, *rest = parts or [str(place)]
    return ", ".join([first, *(code(part) if part == place.module else part for part in rest)])


def _with_names(text: str) -> str:
    """Return a message with the names of modules as code, outside of what is code already."""
    parts, last = [], 0
    for quoted in _QUOTED.finditer(text):
        parts += [_MODULE.sub(lambda name: code(name[0]), text[last : quoted.start()]), quoted[0]]
        last = quoted.end()
    return "".join([*parts, _MODULE.sub(lambda name: code(name[0]), text[last:])])


def _others(findings: Sequence[PlacedFinding], cause: PlacedFinding) -> Iterator[str]:
    found = others(findings, cause)
    for each in found[:MOST_OTHERS]:
        yield f"Also {each.code}{also_in(findings, each)}: {_with_names(each.message.rstrip('.'))}. "
    if more := found[MOST_OTHERS:]:
        yield f"And {len(more)} more: {', '.join(dict.fromkeys(each.code for each in more))}. "


def _shadow(steps: Sequence[StepResult]) -> str:
    return "".join(f"{_sentence(step.summary)}. " for step in steps if step.name == "shadow" and step.state == "ok")


def _looked_at(steps: Sequence[StepResult]) -> str:
    done = [step.name for step in steps if step.state in ("ok", "warning")]
    return f"Looked at: {', '.join(done)}. " if done else ""


def _warnings(findings: Sequence[PlacedFinding]) -> Iterator[str]:
    known: list[PlacedFinding] = []
    for found in findings:
        if not any(_alike(found, each) for each in known):
            known.append(found)
            yield f"Warning {found.code}{also_in(findings, found)}: {_with_names(found.message.rstrip('.'))}. "


def _sentence(text: str) -> str:
    text = text.rstrip(".")
    # The name of a module stays as it is written.
    return text[:1].upper() + text[1:] if text.split(" ")[0].isalpha() else text
