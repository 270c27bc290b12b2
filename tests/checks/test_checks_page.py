"""docs/checks.md says what the tables of planted faults and clean models say, and would show a fault not caught."""

from __future__ import annotations

import page
import pytest
from planted_faults import FAULTS


def test_the_page_is_that_of_the_tables():
    kept = page.PAGE.read_text(encoding="utf-8")
    assert kept == page.text(lambda name: "passed"), "run `python tests/checks/page.py --write`"


@pytest.mark.parametrize("fault", FAULTS, ids=page.fault_id)
def test_a_fault_that_is_not_caught_shows(fault):
    shown = page.text(lambda name: "failed" if name == page.fault_id(fault) else "passed")
    (row,) = [line for line in shown.splitlines() if f"| {fault.code} |" in line and f"| {fault.name} |" in line]
    assert row.split(" | ")[-2] == "NO"
    assert shown.count("| NO |") == 1


def test_a_clean_model_that_is_flagged_shows():
    shown = page.text(lambda name: "failed" if name == page.job_id("circuit", "noising") else "passed")
    assert "| circuit | noising | FAILED | ? |" in shown
    assert "1 jobs failed" in shown
