"""Checking numbers without a model: what a table says must at least agree with itself.

A table of baselines and recoveries is full of numbers that follow from each other. For one pair of rows of N logits
l2² = N x mse, so that two baselines give N, and recovery_mse = 1 - (1 - recovery_l2)² at every site; no distance is
negative, so that no recovery of one exceeds 100 %; no cosine distance exceeds 2. A printed number stands for an
interval, half a unit of its last digit to either side, and a table cannot be true where two intervals exclude each
other.

    numbers.py     a number as printed, and the interval it stands for
    table.py       the numbers of one sweep
    reading.py     a YAML file, a pasted text, or the result of a run, as tables
    pasted.py      a table as somebody pasted it
    relations.py   what must hold between numbers
    states.py      what must hold where a number is inf, NaN or undefined
    audit.py       what contradicts itself, the number of logits, and for every number which altered digit is noticed
    page.py        the audit for people, and as JSON
"""

from harness.results.replay.audit import Audit, Claim, Contradiction, audit, judge
from harness.results.replay.numbers import Interval, Number, StatedPart
from harness.results.replay.page import plain, print_audits, verdict
from harness.results.replay.reading import SUFFIX, read_tables
from harness.results.replay.table import RecoveryTable

__all__ = [
    "SUFFIX",
    "Audit",
    "Claim",
    "Contradiction",
    "Interval",
    "Number",
    "RecoveryTable",
    "StatedPart",
    "audit",
    "judge",
    "plain",
    "print_audits",
    "read_tables",
    "verdict",
]
