"""The version of the harness: in the package's root, in `--version` and in every result."""

VERSION = "0.1.0"
