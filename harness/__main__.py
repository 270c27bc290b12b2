"""`python -m harness` is `harness`."""

import os

from harness.support.interpreter import without_working_directory

if __name__ == "__main__":
    without_working_directory(os.path.dirname(__file__))
    from harness.cli import main

    main()
