"""Case files: YAML in, a `Case` out, or every error at once as file:line:column.

    find_cases([Path("cases")])      the case files below a folder
    load_cases(path)                 what one of them says, read strictly and validated: a case, or its variants
    load_yaml_as(adapter, path)      the same for any other YAML file, such as a table of models

Read `schema.py` for what a case file may say.
"""

from harness.casefile.case import SUFFIX, Case, load_case, load_cases
from harness.casefile.compose.include import DefaultsFile
from harness.casefile.compose.pairs import load_pairs
from harness.casefile.discovery import find_cases
from harness.casefile.language.checks import ALWAYS_ON, CHECKS
from harness.casefile.language.expected import (
    Exemption,
    Expect,
    Expectation,
    KnownBaseline,
    KnownFailure,
    KnownRecovery,
    OfCurves,
    OfJobs,
    exemptions,
)
from harness.casefile.language.fields import Slug
from harness.casefile.language.names import Names
from harness.casefile.language.prompts import Conversation, LongAnswer, PairsFile, Prompts, Turn, as_in_a_case
from harness.casefile.language.schema import CaseFile, Tolerance
from harness.casefile.validation.validate import load_yaml_as

__all__ = [
    "ALWAYS_ON",
    "CHECKS",
    "SUFFIX",
    "Case",
    "CaseFile",
    "Conversation",
    "DefaultsFile",
    "Exemption",
    "Expect",
    "Expectation",
    "KnownBaseline",
    "KnownFailure",
    "KnownRecovery",
    "LongAnswer",
    "Names",
    "OfCurves",
    "OfJobs",
    "PairsFile",
    "Prompts",
    "Slug",
    "Tolerance",
    "Turn",
    "as_in_a_case",
    "exemptions",
    "find_cases",
    "load_case",
    "load_cases",
    "load_pairs",
    "load_yaml_as",
]
