"""`python -m harness.laws.architectures architectures NAME`, `equality NAME DTYPE ...` or `reference NAME`:
a row, one line of JSON."""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx

from harness.laws.architectures import equality, reference
from harness.laws.architectures.rows import row_of

KINDS: Mapping[str, Callable[..., Any]] = {
    "architectures": lambda name: row_of(name).cells,
    "equality": lambda name, *dtypes: equality.cells_of(name, dtypes),
    "reference": reference.cells_of,
}

if __name__ == "__main__":
    mx.set_default_device(mx.cpu)
    kind, *arguments = sys.argv[1:]
    print(json.dumps(KINDS[kind](*arguments)))
