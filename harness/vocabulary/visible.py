"""Text that somebody else wrote, made safe to show: a character that acts on a screen is shown as JSON writes it.

One spelling for every exit: `\\u001b` is understood by a reader, and inside a JSON string it still means the character.
"""

from __future__ import annotations

import json
import re
from typing import Any

_ACTING = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]|(?<=##)\[")
"""C0, DEL and C1; marks and overrides of the writing direction; separators of lines; half a surrogate pair; `##[name]`,
which GitHub's runner takes for a command anywhere in a line (github.com/actions/runner, `ActionCommand.TryParse`)."""
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str, keep: str = "") -> str:
    """Return text on one line, with an escape for each character that would act on a terminal, an editor or a log.

    `keep` are those that stay: `"\\n"` where the lines are ours.
    """
    return _ACTING.sub(lambda found: found[0] if found[0] in keep else escape_of(found[0]), text)


def escape_of(character: str) -> str:
    """Return a character as JSON would write it in a string of ASCII."""
    units = character.encode("utf-16-be", "surrogatepass")
    return _SHORT.get(character) or "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def json_text(value: Any) -> str:
    """Return JSON types as text that is safe to print. Raises ValueError on a number that is not finite."""
    return visible(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False), keep="\n")
