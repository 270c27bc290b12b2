"""Errors that carry a noun: the finding a request ran into, or what a sweep or a job had finished before it ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from harness.vocabulary.answers import Answer, Finding
from harness.vocabulary.errors import EXIT_FINDINGS, HarnessError, described, device_failure
from harness.vocabulary.results import JobResult


class FindingError(HarnessError):
    """A finding that ends the request, for callers who get no result to put it in."""

    exit_code = EXIT_FINDINGS

    def __init__(self, finding: Finding):
        self.finding = finding
        super().__init__(str(finding))


class AlignmentError(FindingError):
    """Clean and corrupted prompt differ in token length, so positions do not correspond."""


class BaselineError(FindingError):
    """The baseline is zero, not finite, or told apart from the clean run by rounding alone: no recovery is defined."""


class InconstantModelError(FindingError):
    """The model answers one prompt in two ways: it draws at random, or keeps state from an earlier call."""


class DeviceFailed(FindingError):
    """The device failed, whoever's call it was that raised: no number of this request counts."""


def refuse_device_failure(error: BaseException) -> None:
    """Raise DeviceFailed where an exception is the device's own failure.

    To be called before an exception becomes an answer, a breach of a law or the reason for another way to compute.
    """
    if isinstance(error, DeviceFailed):
        raise error
    if said := device_failure(error):
        raise DeviceFailed(Finding("ENG003", said)) from error


@contextmanager
def suppressed() -> Iterator[None]:
    """Ignore every Exception of the block but the device's own failure. Raises DeviceFailed."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  the caller says why nothing is lost
        refuse_device_failure(error)


class SweepFailed(HarnessError):
    """A forward pass of a sweep raised; `.answer` holds the cells that were finished, `__cause__` what was raised."""

    def __init__(self, answer: Answer, cause: BaseException):
        self.answer = answer
        super().__init__(f"the sweep ended {answer.stopped}: {described(cause)}")


class SweepInterrupted(KeyboardInterrupt):
    """Ctrl-C during a sweep; `.answer` holds the cells that were finished."""

    def __init__(self, answer: Answer):
        self.answer = answer
        super().__init__(f"interrupted {answer.stopped}")


class JobInterrupted(KeyboardInterrupt):
    """Ctrl-C during a job; `.result` holds what there is of it."""

    def __init__(self, result: JobResult):
        self.result = result
        super().__init__(result.reason)
