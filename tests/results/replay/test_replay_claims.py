"""What the audit says of an altered digit is what an altered digit does, digit by digit; the oracle is exact."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.results.replay import Audit, Number, RecoveryTable, StatedPart, audit, read_tables
from harness.results.replay.audit import EVERY, NONE, SOME, alterations, contradictions
from harness.results.replay.table import Column

REPORT = Path(__file__).parents[3] / "cases" / "replay" / "qwen3-30b-report.replay.yaml"
(PUBLISHED,) = read_tables(REPORT)
LOGITS = 151_936


def accused(table: RecoveryTable) -> set[tuple[str, str]]:
    return {(number.metric, number.site) for each in contradictions(table) for number in each.numbers}


def column(metric: str, baseline: str, error: float, **recoveries: str) -> Column:
    return Column(
        Number.printed(metric, StatedPart.BASELINE, "", baseline, error),
        {site: Number.printed(metric, StatedPart.RECOVERY, site, text, error) for site, text in recoveries.items()},
    )


def disagreements(found: Audit) -> list[str]:
    """Every alteration of a digit that the claim foretells wrongly."""
    wrong = []
    for claim in found.claims:
        number = claim.number
        if not number.finite:
            continue
        assert len(claim.digits) == len(number.text)
        for index, mark in enumerate(claim.digits):
            if mark not in (EVERY, SOME, NONE):
                assert mark == number.text[index]
                continue
            noticed = []
            for text in alterations(number.text, index):
                seen = (number.metric, number.site) in accused(found.table.altered(number, text))
                noticed.append(seen)
                if seen != claim.notices(float(text)):
                    wrong.append(f"{number}: {number.text} -> {text}: noticed {seen}")
            assert len(noticed) == 9
            expected = EVERY if all(noticed) else SOME if any(noticed) else NONE
            if mark != expected:
                wrong.append(f"{number}: digit {index} of {number.text} is {mark}, and was {expected}")
    return wrong


def test_every_alteration_of_the_published_table_is_foretold():
    assert disagreements(audit(PUBLISHED)) == []


def ends(number: Number) -> tuple[Fraction, Fraction]:
    """What a printed number stands for, exactly: a distance, or what is left of one."""
    value, half = Fraction(number.text), Fraction(1, 2 * 10 ** len(number.text.partition(".")[2]))
    if number.part is StatedPart.BASELINE:
        return value - half, value + half
    return 1 - (value + half) / 100, 1 - (value - half) / 100


def possible(table: RecoveryTable, number: Number) -> bool:
    """Whether some true value of the number fits what is printed beside it: squares of fractions, nothing else."""
    low, high = ends(number)
    if high < 0 or (number.metric == "cosine" and number.part is StatedPart.BASELINE and low > 2):
        return False
    partner = {"l2": "mse", "mse": "l2"}.get(number.metric)
    if partner is None:
        return True
    if number.site and number.site not in table.columns[partner].recoveries:
        return True
    beside = table.columns[partner].recoveries[number.site] if number.site else table.columns[partner].baseline
    pair = {number.metric: (max(low, Fraction(0)), high), partner: ends(beside)}
    size = 1 if number.site else LOGITS
    (l2_low, l2_high), (mse_low, mse_high) = pair["l2"], pair["mse"]
    return max(l2_low, Fraction(0)) ** 2 <= size * mse_high and l2_high**2 >= size * mse_low


def test_every_alteration_of_the_published_table_is_noticed_where_exact_arithmetic_says_so():
    exact = RecoveryTable(
        PUBLISHED.title,
        {
            name: column(name, one.baseline.text, 0.0, **{site: number.text for site, number in one.recoveries.items()})
            for name, one in PUBLISHED.columns.items()
        },
        LOGITS,
    )
    tried = 0
    for number in exact:
        for index in (index for index, char in enumerate(number.text) if char.isdigit()):
            for text in alterations(number.text, index):
                altered = exact.altered(number, text)
                new = next(each for each in altered if (each.metric, each.site) == (number.metric, number.site))
                assert ((number.metric, number.site) in accused(altered)) is not possible(altered, new), (number, text)
                tried += 1
    assert tried == 9 * sum(char.isdigit() for number in exact for char in number.text)


def test_the_marks_of_the_published_table():
    """Two of them by hand: sqrt(151,936 x [0.64795, 0.64805]) = 313.7631 to 313.7873, so the third decimal of 313.7752
    cannot go to 0.79; and 313.7752² / 151,936 = 0.648000 leaves no other fourth decimal to 0.6480."""
    marks = {(claim.number.metric, claim.number.site): claim.digits for claim in audit(PUBLISHED).claims}
    assert marks["l2", ""] == "✓✓✓.✓~··"
    assert marks["mse", ""] == "✓.✓✓✓✓"
    assert marks["mse", "layer 47"] == "·.·"
    assert marks["cosine", "layer 10"] == "··.·"


def test_the_number_of_logits_is_inferred():
    """313.7752² / 0.6480 = 151,936.5; the ends from 313.77515² / 0.64805 and 313.77525² / 0.64795."""
    found = audit(PUBLISHED).logits
    assert found is not None
    assert found.low == pytest.approx(151_924.7, abs=0.5)
    assert found.high == pytest.approx(151_948.3, abs=0.5)


@st.composite
def true_tables(draw: st.DrawFn) -> RecoveryTable:
    """A table of real distances between rows of numbers, printed to some digits."""
    seed, logits, layers = draw(st.integers(0, 2**32)), draw(st.integers(2, 400)), draw(st.integers(1, 3))
    random = np.random.default_rng(seed)
    clean, corrupted, *patched = random.normal(size=(2 + layers, logits)) * 10.0 ** draw(st.integers(-2, 3))
    # A patched run lies between the two and a little beside; the last one may be far off.
    patched = [corrupted + random.uniform(-1, 1) * (clean - corrupted) + 0.1 * row for row in patched]
    places = draw(st.integers(0, 5))

    def distances(row: np.ndarray) -> dict[str, float]:
        gap = row - clean
        cos = row @ clean / np.sqrt((row @ row) * (clean @ clean))
        return {"l2": float(np.sqrt(gap @ gap)), "mse": float(gap @ gap / logits), "cosine": float(1 - cos)}

    baselines = distances(corrupted)
    columns = {}
    for metric, baseline in baselines.items():
        texts = {f"layer {k}": f"{100 * (1 - distances(row)[metric] / baseline):.{places}f}"
                 for k, row in enumerate(patched)}  # fmt: skip
        columns[metric] = column(metric, f"{baseline:.{draw(st.integers(0, 6))}f}", 1e-9, **texts)
    return RecoveryTable("drawn", columns, draw(st.sampled_from([logits, None])))


@settings(max_examples=60, deadline=None)
@given(true_tables())
def test_true_numbers_are_never_accused_whatever_their_digits(table: RecoveryTable):
    assert list(contradictions(table)) == []


@settings(max_examples=8, deadline=None)
@given(true_tables())
def test_every_alteration_of_a_true_table_is_foretold(table: RecoveryTable):
    assert disagreements(audit(table)) == []


@settings(max_examples=8, deadline=None)
@given(true_tables(), st.data())
def test_every_alteration_of_a_false_table_is_foretold(table: RecoveryTable, data: st.DataObject):
    number = data.draw(st.sampled_from(list(table)))
    text = data.draw(st.sampled_from(["0.0", "99.9", "101", "250.0", "-12.5", "3"]))
    assert disagreements(audit(table.altered(number, text))) == []
