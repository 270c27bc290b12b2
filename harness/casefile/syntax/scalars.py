"""What an unquoted word in a YAML file means, after YAML 1.2's core schema, minus its surprises.

Only `true`/`false` are booleans, so `no`, `yes`, `on` and `off` stay text, and `1e-3` is a number. Whatever could be
read as two different numbers stays text: a leading zero (`012`, `0o14`), a sexagesimal (`1:30`), `1_000`, a date. The
field then refuses the text where it wants a number, which is better than a number nobody meant. Numbers that are not
finite are refused here, since no case can mean them.
"""

from __future__ import annotations

import math
import re

NULLS = ("", "~", "null", "Null", "NULL")
BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
# A 64-bit integer has at most 19 digits; JSON readers elsewhere agree on no more.
MAX_DIGITS = 18

Scalar = str | int | float | bool | None


def plain_scalar(text: str) -> Scalar:
    """Return the value of an unquoted scalar; ValueError, with the reason as text, for a number that is not finite."""
    if text in NULLS:
        return None
    if text in BOOLEANS:
        return BOOLEANS[text]
    if INTEGER.fullmatch(text):
        return _integer(text)
    if FLOAT.fullmatch(text):
        return _float(text)
    if NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number; put it in quotes if it is text")
    return text


def _integer(text: str) -> int:
    if len(text.lstrip("+-")) > MAX_DIGITS:
        raise ValueError(f"a whole number of more than {MAX_DIGITS} digits; put it in quotes if it is text")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number too large for a 64-bit float; put it in quotes if it is text")
    return value
