"""The documentation site: `make docs` builds it, and a warning is an error.

The pages are plain Markdown that reads as well without Sphinx; what is reference is read from the code while building.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from sphinx.application import Sphinx

import harness

project, author, copyright = "mlx-patch-harness", "the contributors", "the contributors"
version = release = harness.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click", "schema_tables", "plain_links"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"{project} {version}"
html_show_copyright = False
html_copy_source = False

myst_heading_anchors = 3

# Dashes in prose are those of options.
smartquotes = False

# A docstring here is prose in which `name` is code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"ModelRow": "harness.models.ModelRow"}

nitpick_ignore_regex = [
    # Of libraries whose documentation is not at hand where the site is built.
    (r"py:.*", r"(numpy|np|npt|mlx|mx|pydantic|annotated_types|syrupy|click)\..*"),
    (r"py:.*", r"(collections\.abc|pathlib|datetime|typing|types|enum|abc)\..*"),
    (r"py:.*", r"(FieldInfo|NoneType|TypeAliasForwardRef|_PydanticGeneralMetadata|Le|Ge|Gt|AllowInfNan)"),
    # What a field is validated by, in its annotation.
    (r"py:.*", r"harness\.casefile\.language\.fields\._\w+"),
    # Halves of a generic that the domain splits at its comma.
    (r"py:.*", r"(dict|tuple)\[.*"),
    # Aliases, which have no entry of their own.
    (r"py:.*", r"harness\.models\.(ModelRow|loaded\.KnownAnswers)"),
]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", _indented_is_literal)
    app.connect("autodoc-process-signature", _aliases_by_name)
    app.connect("sphinx-click-process-options", _stars_are_stars)


def _indented_is_literal(app: Sphinx, what: str, name: str, of: object, options: object, lines: list[str]) -> None:
    """Make what is indented after a blank line a literal block, as it is in Markdown and in every docstring here."""
    shown: list[str] = []
    literal = False
    for number, line in enumerate(lines):
        if line.startswith("    ") and not literal and number and not lines[number - 1]:
            shown += ["::", ""]
            literal = True
        elif line and not line.startswith("    "):
            literal = False
        shown.append(line)
    lines[:] = shown


def _aliases_by_name(
    app: Sphinx, what: str, name: str, of: object, options: object, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Show an alias of a type as its name, and not as the object that stands for it."""
    shown = [text and re.sub(r"TypeAliasForwardRef\('([\w.]+)'\)", r"\1", text) for text in (arguments, returned)]
    return shown[0], shown[1]


def _stars_are_stars(app: Sphinx, context: object, lines: list[str]) -> None:
    """Keep `*` in the help of an option from being emphasis."""
    lines[:] = [line.replace("*", "\\*") for line in lines]
