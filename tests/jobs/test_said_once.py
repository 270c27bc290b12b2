"""What is true of an engine's own code is said in its first job, and in those that expect it."""

from __future__ import annotations

from harness.jobs.run import ONCE, ModelCache
from harness.vocabulary import Finding

KEPT, REORDERED, WRONG = Finding("LAW008", "a"), Finding("LAW017", "b"), Finding("LAW007", "c")


def test_an_engines_own_findings_are_said_once_a_run_and_wrong_numbers_every_time():
    cache = ModelCache()
    assert cache.said_once("one", [KEPT, REORDERED, WRONG], ()) == [KEPT, REORDERED, WRONG]
    assert cache.said_once("one", [KEPT, REORDERED, WRONG], ()) == [WRONG]
    assert cache.said_once("another", [KEPT], ()) == [KEPT]
    assert cache.said_once("one", [KEPT, WRONG], ("LAW008",)) == [KEPT, WRONG]
    assert ModelCache().said_once("one", [KEPT], ()) == [KEPT]


def test_no_code_of_a_wrong_number_is_said_once():
    assert {"LAW008", "LAW017"} <= ONCE
    assert not ONCE & {"LAW003", "LAW005", "LAW006", "LAW007", "LAW016"}
