"""Laying one document over another: mappings are merged key by key, everything else is replaced whole.

A list is replaced too: what a case writes about its metrics is all of its metrics. Every entry keeps its place, so a
fault of an included value is named in the included file.
"""

from __future__ import annotations

from typing import Any

from harness.casefile.syntax.document import Document, KeyPath, Location

Places = dict[KeyPath, Location]


def overlaid(below: Document, above: Document) -> Document:
    """Return both documents as one; where they disagree, `above` wins."""
    places: Places = {}
    return Document(above.path, _merged(below, above, (), below.data, above.data, places), places)


def _merged(below: Document, above: Document, path: KeyPath, low: Any, high: Any, places: Places) -> Any:
    if not (isinstance(low, dict) and isinstance(high, dict)):
        return _copied(above, path, high, places)
    places[path] = above.places[path]
    return {
        key: _merged(below, above, (*path, key), low[key], high[key], places)
        if key in low and key in high
        else _copied(*((above, (*path, key), high[key]) if key in high else (below, (*path, key), low[key])), places)
        for key in (*low, *(key for key in high if key not in low))
    }


def _copied(source: Document, path: KeyPath, node: Any, places: Places) -> Any:
    places[path] = source.places[path]
    if isinstance(node, dict):
        return {key: _copied(source, (*path, key), value, places) for key, value in node.items()}
    if isinstance(node, list):
        return [_copied(source, (*path, index), value, places) for index, value in enumerate(node)]
    return node
