"""`python -m harness.matrix NAME` prints the row of one architecture as one line of JSON."""

import json
import sys

import mlx.core as mx

from harness.matrix.rows import row_of

if __name__ == "__main__":
    mx.set_default_device(mx.cpu)
    print(json.dumps(row_of(sys.argv[1]).cells))
