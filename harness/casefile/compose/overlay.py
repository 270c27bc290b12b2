"""Laying one document over another: mappings are merged key by key, everything else is replaced whole.

A list is replaced too: what a case writes about its metrics is all of its metrics. Every entry keeps its place, so a
fault of an included value is named in the included file. Both documents are shared and not copied: a matrix lays
hundreds of changes over one large case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.casefile.syntax.document import Document, KeyPath, Location


def overlaid(below: Document, above: Document) -> Document:
    """Return both documents as one; where they disagree, `above` wins."""
    return Document(above.path, _merged(below.data, above.data), _Places(below, above))


def _merged(low: Any, high: Any) -> Any:
    if not (isinstance(low, dict) and isinstance(high, dict)):
        return high
    return {**low, **{key: _merged(low[key], value) if key in low else value for key, value in high.items()}}


@dataclass(frozen=True, eq=False)
class _Places(Mapping[KeyPath, Location]):
    """The places of the entries of two documents as one: each is looked up in the document that its value is from."""

    below: Document
    above: Document

    def __getitem__(self, path: KeyPath) -> Location:
        return self._source(path).places[path]

    def _source(self, path: KeyPath) -> Document:
        low: Any = self.below.data
        high: Any = self.above.data
        for key in path:
            if not (isinstance(low, dict) and isinstance(high, dict)):
                break
            if key not in high:
                return self.below
            if key not in low:
                break
            low, high = low[key], high[key]
        return self.above

    def __iter__(self) -> Iterator[KeyPath]:
        return (path for one in (self.above, self.below) for path in one.places if self._source(path) is one)

    def __len__(self) -> int:
        return sum(1 for _ in self)
