"""A job asks A, B, A: does the model answer the prompt that is patched alike, before the sweep and after it?

Where our own engine patches, the first A is the bare run that the laws need anyway, the sweep is B, and the law that a
traced run has the bits of the bare one is the second A: it costs nothing. Somebody else's engine is asked only after a
model that has answered A, B, A alike, because what it finds afterwards is held against that engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.checks import Evidence
from harness.intercept import forward
from harness.intercept.constancy import Constancy
from harness.intercept.inconstancy import finding_of
from harness.laws.compared import Compared
from harness.laws.own_taps import OwnTaps
from harness.metrics.tolerances import AGAIN
from harness.vocabulary import Finding, Question
from harness.vocabulary.findings import Severity, Subject, kind_of
from harness.vocabulary.raised import suppressed


@dataclass
class ConstancyOfJob:
    """The A, B, A of one job, and what it found."""

    constancy: Constancy
    question: Question
    foreign: bool
    """Whether somebody else's code has a hand in the job."""
    again: bool = False
    """Whether an earlier pair of the job was asked A, B, A: of a model that is a function of its input then, only what
    costs nothing, or a finding about the engine, asks once more."""
    bare: Any = None
    """The row `[vocab]` of A before the sweep, None where the model cannot be run."""
    findings: list[Finding] = field(default_factory=list)

    def before(self) -> bool:
        """Ask A and, where that cannot wait, B and A; return whether the model is no function of its input."""
        self.constancy.watch()
        with suppressed():  # a model that cannot run says so in the sweep
            self.bare = forward(self.constancy.model, self.question.target)
        if self.bare is None or not self.foreign or self.again:
            return False
        with suppressed():
            forward(self.constancy.model, self.question.source)
        return self._is_inconstant()

    def after(self, findings: Sequence[Finding], evidence: Evidence | None = None) -> list[Finding]:
        """Ask A again, unless a law has, and return what is left of the findings of a job: of a model that is no
        function of its input no number says anything, and neither does a sweep that raised (no evidence)."""
        wrong = any(map(_is_about_the_engine, findings))
        if self.bare is not None and not self.foreign:
            traced = evidence is not None and _is_traced(evidence) and not wrong
            asking = traced or wrong or not self.again
            if asking and self._is_inconstant(self.bare if traced else None, thoroughly=wrong):
                return self.findings
        if evidence is not None:
            findings = self._standing(findings, evidence)
        return [*findings, *self.findings]

    def _standing(self, findings: Sequence[Finding], evidence: Evidence) -> list[Finding]:
        """Return the findings without broken laws about bits that the machine broke: by rounding only where its runs
        are known to differ, and otherwise those that hold when they are asked again, of which it is told instead."""
        if self.findings:
            return [each for each in findings if not _is_about_bits_alone(each, evidence)]
        fleeting = [each for each in findings if _is_gone(each, evidence)]
        self.findings.extend(map(_of_the_machine, fleeting[:1]))
        return [each for each in findings if each not in fleeting]

    def _is_inconstant(self, again: Any = None, thoroughly: bool = False) -> bool:
        ids = self.question.target, self.question.source
        found = self.constancy.judged(self.bare, *ids, again, thoroughly=thoroughly)
        if found is None:
            return False
        self.findings.append(finding_of(found))
        return found.is_the_models


def _is_traced(evidence: Evidence) -> bool:
    """Whether a law has held a traced run, after the sweep, against the bare one from before it."""
    finite = evidence.answer.clean.finite and evidence.answer.corrupted.finite
    return "laws" in evidence.case.checks and evidence.engine.is_native and finite


def _is_about_bits_alone(each: Finding, evidence: Evidence) -> bool:
    """Whether a law that compares bits is broken by rounding only: on this machine no two runs have the same bits."""
    compared = _BIT_FOR_BIT.get(each.code)
    return compared is not None and compared(OwnTaps(evidence.situation)).breach() is None


def _is_gone(each: Finding, evidence: Evidence) -> bool:
    """Whether a law that compares bits was broken by rounding, and holds in most of the runs that ask it again, all of
    them new. Taps that are wrong break it every time; a machine that rounds a call in a hundred otherwise, once."""
    compared = _BIT_FOR_BIT.get(each.code)
    if compared is None or not evidence.engine.is_native or not _is_about_bits_alone(each, evidence):
        return False
    fresh = (replace(evidence.situation, bare_row=None) for _ in range(AGAIN))
    return 2 * sum(compared(OwnTaps(asked)).breach(bit_for_bit=True) is None for asked in fresh) > AGAIN


def _of_the_machine(each: Finding) -> Finding:
    again = f"{each.code} was broken once and holds in new runs: the model is rounded otherwise now and then"
    return Finding("MOD002", f"{each.message}; {again}", evidence={"law": each.code, **each.evidence})


_BIT_FOR_BIT: Mapping[str, Callable[[OwnTaps], Compared]] = {
    "LAW001": lambda taps: taps.traced,
    "LAW002": lambda taps: taps.own_put_back,
}


def _is_about_the_engine(each: Finding) -> bool:
    kind = kind_of(each.code)
    return kind.severity is Severity.ERROR and kind.subject is Subject.ENGINE
