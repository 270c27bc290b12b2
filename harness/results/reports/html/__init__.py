"""One self-contained HTML file: no network, readable without JavaScript, in the dark, on a phone, by a screen reader.

`charts` turns curves into SVG, `page` turns a result into what the template needs; the template, its style and its
script lie beside them. Jinja2 escapes everything that comes from a case file or a model.
"""

from harness.results.reports.html.notebook import in_a_notebook
from harness.results.reports.html.page import render

__all__ = ["in_a_notebook", "render"]
