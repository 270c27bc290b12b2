"""How a status or a state looks where there is room for one character: a sign, never colour alone."""

from __future__ import annotations

from collections.abc import Mapping

from harness.vocabulary import JobResult, Status

SIGN: Mapping[Status, str] = {
    Status.PASSED: "✓",
    Status.FAILED: "✗",
    Status.SKIPPED: "○",
    Status.REFUSED: "⊘",
    Status.CRASHED: "‼",
    Status.INTERRUPTED: "…",
}
KNOWN = "†"
"""The sign of a job, or a cell, whose failures are all known."""
EXPECTED = "◇"
"""The sign of a job that passed because its case expects the errors that were found."""


def sign_of(job: JobResult) -> str:
    """Return the sign of how a job ended."""
    return KNOWN if job.known else EXPECTED if job.in_spite else SIGN[job.status]


def word_of(job: JobResult) -> str:
    """Return how a job ended, in a word: one that passed in spite of errors is told from a sound one."""
    return "known" if job.known else "as expected" if job.in_spite else job.status.value
