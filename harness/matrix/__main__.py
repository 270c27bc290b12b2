"""`python -m harness.matrix architectures NAME`, or `equality NAME DTYPE ...`, prints a row as one line of JSON."""

import json
import sys

import mlx.core as mx

from harness.matrix.equality import cells_of
from harness.matrix.rows import row_of

if __name__ == "__main__":
    mx.set_default_device(mx.cpu)
    kind, name, *dtypes = sys.argv[1:]
    print(json.dumps(cells_of(name, dtypes) if kind == "equality" else row_of(name).cells))
