"""Findings about stored numbers."""

from harness.vocabulary.findings.kind import CASE, ENGINE, ENVIRONMENT, ERROR, NOTE, WARNING, FindingKind

KINDS = (
    FindingKind(
        "SNP001",
        "snapshot",
        ERROR,
        ENGINE,
        "a value differs from its snapshot",
        "look at the difference with `harness snapshots review`, which stores it if it is meant",
    ),
    FindingKind(
        "SNP002",
        "snapshot",
        WARNING,
        CASE,
        "no snapshot is stored for this job",
        "store one with --snapshot-update",
    ),
    FindingKind(
        "SNP003",
        "snapshot",
        NOTE,
        ENVIRONMENT,
        "no snapshot for this backend; compared with another one's",
        "look at the candidate with `harness snapshots review`, which stores it",
    ),
    FindingKind(
        "SNP004",
        "snapshot",
        ERROR,
        CASE,
        "a value that is not finite cannot be stored",
        "repair the cause, or expect the finding in the case",
    ),
    FindingKind(
        "SNP005",
        "snapshot",
        ERROR,
        ENVIRONMENT,
        "a snapshot cannot be written",
        "make room or give the permission and update again; what was stored before is untouched",
    ),
)
