"""What pydantic calls a fault, in the words of whoever wrote the file.

`said(error, path, value)` returns the message for one fault; `MESSAGES` has a row for every type of fault that a
strict model over JSON can have. Any other type says for itself what it expects, and gets what was found added.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import ErrorDetails

from harness.casefile.language.fields import PATTERN_WORDS
from harness.casefile.syntax.document import KeyPath, described, shown, with_article
from harness.vocabulary.errors import suggest

Context = Mapping[str, Any]
Message = Callable[[Context, Any, str], str]


def _expected(what: str) -> Message:
    def message(_context: Context, value: Any, _name: str) -> str:
        return f"expected {what}, found {described(value)}"

    return message


def _expected_text(_context: Context, value: Any, _name: str) -> str:
    quotes = "; put it in quotes" if isinstance(value, bool | int | float) else ""
    return f"expected text, found {described(value)}{quotes}"


def _bound(words: str, key: str) -> Message:
    def message(context: Context, value: Any, _name: str) -> str:
        return f"expected a number {words} {context[key]:g}, found {value}"

    return message


def _too_short(context: Context, _value: Any, _name: str) -> str:
    least = context["min_length"]
    return "at least one entry is needed" if least == 1 else f"at least {least} entries are needed"


def _too_long(context: Context, _value: Any, _name: str) -> str:
    return f"at most {context['max_length']} entries are allowed"


def _unknown_name(context: Context, value: Any, name: str) -> str:
    options = re.findall(r"'([^']*)'", context.get("expected") or context["expected_tags"])
    seen = shown(value) if isinstance(value, str) else described(value)
    return f"{seen} is not {with_article(name)}; {suggest(str(value), options)}"


def _own_words(context: Context, _value: Any, _name: str) -> str:
    return str(context["error"])


def _pattern(context: Context, value: Any, _name: str) -> str:
    words = PATTERN_WORDS.get(context["pattern"], f"text that matches {context['pattern']}")
    return f"expected {words}, found {shown(value)}"


MESSAGES: Mapping[str, Message] = {
    "missing": lambda _context, _value, _name: "is missing",
    "union_tag_not_found": lambda _context, _value, _name: "is missing",
    "string_type": _expected_text,
    "bool_type": _expected("true or false"),
    "int_type": _expected("a whole number"),
    "int_parsing": _expected("a whole number"),
    "int_from_float": _expected("a whole number"),
    "float_type": _expected("a number"),
    "float_parsing": _expected("a number"),
    "finite_number": _expected("a finite number"),
    "tuple_type": _expected("a list"),
    "list_type": _expected("a list"),
    "dict_type": _expected("a mapping"),
    "model_type": _expected("a mapping"),
    "model_attributes_type": _expected("a mapping"),
    "none_required": _expected("nothing"),
    "greater_than_equal": _bound("of at least", "ge"),
    "greater_than": _bound("above", "gt"),
    "less_than_equal": _bound("of at most", "le"),
    "less_than": _bound("below", "lt"),
    "too_short": _too_short,
    "too_long": _too_long,
    "string_too_short": lambda _context, _value, _name: "expected text, found empty text",
    "string_pattern_mismatch": _pattern,
    "value_error": _own_words,
    "literal_error": _unknown_name,
    "enum": _unknown_name,
    "union_tag_invalid": _unknown_name,
}


def said(error: ErrorDetails, path: KeyPath, value: Any) -> str:
    """Return our words for one of pydantic's errors about the `value` at a key path."""
    context = error.get("ctx", {})
    if error["type"] not in MESSAGES:
        return f"{error['msg']}, found {described(value)}"
    return MESSAGES[error["type"]](context, value, _noun(path))


def _noun(path: KeyPath) -> str:
    """Return what an entry is called: `direction` at `sweep.direction`, `metric` at `metrics[1]`."""
    names = [key.replace("_", " ") for key in path if isinstance(key, str)]
    if not names:
        return "value"
    return names[-1].removesuffix("s") if isinstance(path[-1], int) else names[-1]
