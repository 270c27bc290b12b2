"""Case files: YAML in, a `Case` out, or every error at once as file:line:column.

    find_cases([Path("cases")])      the case files below a folder
    load_case(path)                  one of them, read strictly and validated
    load_yaml_as(adapter, path)      the same for any other YAML file, such as a table of models

Read `schema.py` for what a case file may say.
"""

from harness.casefile.case import SUFFIX, Case, load_case
from harness.casefile.discovery import find_cases
from harness.casefile.fields import Slug
from harness.casefile.schema import (
    CHECKS,
    CaseFile,
    Expect,
    Expectation,
    KnownBaseline,
    KnownRecovery,
    Prompts,
    Tolerance,
)
from harness.casefile.validation import load_yaml_as

__all__ = [
    "CHECKS",
    "SUFFIX",
    "Case",
    "CaseFile",
    "Expect",
    "Expectation",
    "KnownBaseline",
    "KnownRecovery",
    "Prompts",
    "Slug",
    "Tolerance",
    "find_cases",
    "load_case",
    "load_yaml_as",
]
