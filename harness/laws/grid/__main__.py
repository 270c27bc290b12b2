"""`python -m harness.laws.grid MEMORY MODULE FUNCTION ARGUMENTS`: one call, its result as JSON on standard output."""

from __future__ import annotations

import json
import os
import resource
import sys
from importlib import import_module


def main(memory: str, module: str, function: str, arguments: str) -> None:
    """Write what the function returns; whatever else is printed goes to standard error."""
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = int(memory) if hard == resource.RLIM_INFINITY else min(int(memory), hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
        json.dump(getattr(import_module(module), function)(*json.loads(arguments)), answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
