"""`python -m harness.laws.conformance ENGINE ROW LAWS [--allow-code]`: one row, as JSON on the last line of output."""

from __future__ import annotations

import json
import sys

from harness.engines import engine_named
from harness.laws import LAWS
from harness.laws.conformance.matrix import dump_cell, row_cells
from harness.laws.conformance.rows import rows_named

engine, name, laws = sys.argv[1:4]
(row,) = rows_named([name])
found = row_cells(engine_named(engine, "--allow-code" in sys.argv), row, [LAWS[law] for law in laws.split(",")])
print("\n" + json.dumps([dump_cell(cell) for cell in found]))
