"""Findings about stored numbers."""

from harness.findings.kind import ERROR, WARNING, FindingKind

KINDS = (
    FindingKind(
        "SNP001",
        "snapshot",
        ERROR,
        "a value differs from its snapshot",
        "look at the difference; if it is meant, store it with --snapshot-update",
    ),
    FindingKind(
        "SNP002",
        "snapshot",
        WARNING,
        "no snapshot is stored for this job",
        "store one with --snapshot-update",
    ),
    FindingKind(
        "SNP003",
        "snapshot",
        WARNING,
        "no snapshot for this backend; compared with another one's",
        "review the candidate in the results folder and commit it",
    ),
    FindingKind(
        "SNP004",
        "snapshot",
        ERROR,
        "a value that is not finite cannot be stored",
        "repair the cause, or expect the finding in the case",
    ),
)
