"""`python -m harness.laws.architectures architectures NAME`, or `equality NAME DTYPE ...`: a row, one line of JSON."""

import json
import sys

import mlx.core as mx

from harness.laws.architectures.equality import cells_of
from harness.laws.architectures.rows import row_of

if __name__ == "__main__":
    mx.set_default_device(mx.cpu)
    kind, name, *dtypes = sys.argv[1:]
    print(json.dumps(cells_of(name, dtypes) if kind == "equality" else row_of(name).cells))
