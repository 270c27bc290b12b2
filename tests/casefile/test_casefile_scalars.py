"""Unquoted words of a YAML file: which are numbers or booleans (YAML 1.2, section 10.3.2), and which stay text."""

from __future__ import annotations

import pytest

from harness.casefile.syntax.scalars import plain_scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("-2.5", -2.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("+7", 7),
        ("-1", -1),
        ("0", 0),
        ("999999999999999999", 10**18 - 1),
        ("true", True),
        ("False", False),
        ("", None),
        ("~", None),
        ("null", None),
    ],
)
def test_a_word_of_the_core_schema_has_its_value(text: str, value: object) -> None:
    result = plain_scalar(text)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "no", "yes", "on", "off", "y", "N", "tRUE", "nan", "inf", "=", "<<", "012", "0o14", "0x1F", "0b1", "007.5",
        "1:30", "1_000", "2024-01-31", "1e", "e5", "1.2.3", "--1", "١٢",
    ],
)  # fmt: skip
def test_a_word_that_could_be_misread_stays_text(text: str) -> None:
    assert plain_scalar(text) == text


@pytest.mark.parametrize("text", [".nan", ".NaN", ".inf", "-.INF", "+.Inf"])
def test_a_number_that_is_not_finite_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a finite number; put it in quotes if it is text"):
        plain_scalar(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("1e400", "a number too large for a 64-bit float"), ("9" * 5000, "a whole number of more than 18 digits")],
)
def test_a_number_that_does_not_fit_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        plain_scalar(text)
