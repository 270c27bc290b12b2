"""Links that are right on a code host and lead nowhere on the site: to a folder, and out of docs/.

A folder's page is its README.md; of what lies outside docs/ only the name is left.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

LINK = re.compile(r"\[([^\]]*)\]\(([^)#:\s]+)(#[^)]*)?\)")


def rewritten(text: str, page: Path, docs: Path) -> str:
    """Return a page's Markdown with every link one that the site has."""

    def link(found: re.Match[str]) -> str:
        target = (page.parent / found[2]).resolve()
        if not target.is_relative_to(docs):
            return found[1]
        if target.is_dir() and (target / "README.md").exists():
            return f"[{found[1]}]({found[2].rstrip('/')}/README.md{found[3] or ''})"
        return found[0]

    return LINK.sub(link, text)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", _rewrite)
    return {"parallel_read_safe": True}


def _rewrite(app: Sphinx, docname: str, source: list[str]) -> None:
    page = Path(app.env.doc2path(docname))
    if page.suffix == ".md":
        source[0] = rewritten(source[0], page, Path(app.srcdir).resolve())
