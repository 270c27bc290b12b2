"""`python -m harness.laws.grid MEMORY MODULE FUNCTION ARGUMENTS`: one call, its result as JSON on standard output."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
from importlib import import_module

from harness.environment.facts import use_wanted_device


def _end_with(parent: int) -> None:
    """End this process and all that it started when nobody waits for the answer any more."""
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


def main(memory: str, module: str, function: str, arguments: str) -> None:
    """Write what the function returns; whatever else is printed goes to standard error."""
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        limit = int(memory) if hard == resource.RLIM_INFINITY else min(int(memory), hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
        use_wanted_device()
        json.dump(getattr(import_module(module), function)(*json.loads(arguments)), answer)


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    main(*sys.argv[1:])
