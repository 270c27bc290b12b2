"""One verdict for a job and for a run, and the exit code that goes with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.vocabulary import Finding, JobResult, Status, errors, raised
from harness.vocabulary.findings import FINDINGS, FindingKind, Severity, Subject
from harness.vocabulary.verdict import causes, fails, judge, of_run

ERROR, WARNING = Finding("FIN001", "seen"), Finding("SNP002", "seen")


@pytest.mark.parametrize(
    ("findings", "must", "may", "strict", "status", "codes"),
    [
        ([], (), (), False, "passed", []),
        ([ERROR], (), (), False, "failed", ["FIN001"]),
        ([WARNING], (), (), False, "passed", ["SNP002"]),
        ([WARNING], (), (), True, "failed", ["SNP002"]),
        ([ERROR], ("FIN001",), (), False, "passed", ["FIN001"]),
        ([ERROR], (), ("FIN001",), False, "passed", ["FIN001"]),
        ([ERROR], ("FIN001",), (), True, "passed", ["FIN001"]),
        ([], (), ("FIN001",), True, "passed", []),
        ([], ("FIN001",), (), False, "failed", ["EXP001"]),
        ([ERROR], ("FIN002",), (), False, "failed", ["FIN001", "EXP001"]),
        ([ERROR, ERROR], ("FIN001",), (), False, "passed", ["FIN001", "FIN001"]),
    ],
    ids=["nothing", "error", "warning", "warning, strict", "must", "may", "must, strict", "may, absent", "must, absent",
         "another one", "twice"],
)  # fmt: skip
def test_the_status_of_a_job(findings, must, may, strict, status, codes):
    got, marked = judge(findings, must, may, strict)
    assert got == status
    assert [finding.code for finding in marked] == codes
    assert all(finding.expected == (finding.code in (*must, *may)) for finding in marked)


def test_a_missing_finding_is_named():
    _, (finding,) = judge([], ("ORC001",), ())
    assert finding.message == "ORC001 was expected and not found"


@pytest.mark.parametrize("code", FINDINGS)
def test_severity_and_under_strict_the_subject_decide_what_fails(code):
    kind = FINDINGS[code]
    warned = kind.severity is Severity.WARNING and kind.subject in (Subject.ENGINE, Subject.CASE)
    assert fails(Finding(code, "")) == (kind.severity is Severity.ERROR)
    assert fails(Finding(code, ""), strict=True) == (kind.severity is Severity.ERROR or warned)
    assert not fails(Finding(code, "", expected=True), strict=True)


@pytest.mark.parametrize("subject", Subject)
@pytest.mark.parametrize("severity", Severity)
def test_every_subject_of_every_severity(severity, subject):
    """Stated in full, for rows that the table does not have today."""
    kind = FindingKind("NEW001", "new", severity, subject, "title", "hint")
    assert kind.fails() == (severity == "error")
    assert kind.fails(strict=True) == (
        (severity, subject) in {("warning", "engine"), ("warning", "case")} or severity == "error"
    )


def test_a_kind_without_a_subject_cannot_be_written():
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        FindingKind("NEW001", "new", Severity.ERROR, "title", "hint")


@pytest.mark.parametrize("code", ["HED001", "SHF001", "PRC001", "MET001"])
def test_what_is_true_of_the_logits_never_fails_a_correct_engine(code):
    assert judge([Finding(code, "seen")], (), (), strict=True)[0] is Status.PASSED


def test_a_job_that_only_strict_failed_names_the_warning_that_did():
    """A result read back does not say that its run was strict."""
    listed, guilty = Finding("HED001", "seen"), Finding("SNP002", "seen")
    job = JobResult("i", "c", "f", "m", "e", Status.FAILED, findings=(listed, guilty))
    assert causes(job) == causes(job, strict=True) == [guilty]
    assert causes(replace(job, status=Status.PASSED)) == []
    assert causes(replace(job, findings=(guilty, ERROR))) == [ERROR]


@pytest.mark.parametrize(
    ("statuses", "verdict", "code"),
    [
        ("passed", Status.PASSED, 0),
        ("passed skipped", Status.PASSED, 0),
        ("passed failed skipped", Status.FAILED, 1),
        ("failed refused", Status.REFUSED, 4),
        ("refused crashed passed", Status.CRASHED, 3),
        ("skipped", Status.SKIPPED, 5),
        ("", Status.SKIPPED, 5),
    ],
    ids=lambda value: str(value) or "none",
)
def test_the_gravest_job_decides_the_run(statuses, verdict, code):
    jobs = [JobResult("i", "c", "f", "m", "e", Status(status)) for status in statuses.split()]
    assert of_run(jobs) == (verdict, code)


@pytest.mark.parametrize(
    ("besides", "verdict", "code"),
    [((), Status.PASSED, 0), ((Status.SKIPPED,), Status.PASSED, 0), ((Status.FAILED,), Status.FAILED, 1),
     ((Status.FAILED, Status.REFUSED), Status.REFUSED, 4),
     ((Status.REFUSED, Status.INTERRUPTED), Status.INTERRUPTED, 2),
     ((Status.INTERRUPTED, Status.CRASHED), Status.CRASHED, 3)],
)  # fmt: skip
def test_what_happened_besides_the_jobs_counts(besides, verdict, code):
    assert of_run([JobResult("i", "c", "f", "m", "e", Status.PASSED)], *besides) == (verdict, code)


@pytest.mark.parametrize(
    ("error", "code"),
    [("HarnessError", 3), ("UsageError", 4), ("CaseFileError", 4), ("UnknownName", 4), ("PromptError", 4),
     ("ModelUnavailable", 5), ("NothingToRun", 5), ("DeviceUnavailable", 5),
     ("FindingError", 1), ("AlignmentError", 1), ("BaselineError", 1), ("TapError", 3),
     ("SnapshotRefused", 1)],
)  # fmt: skip
def test_every_error_knows_its_exit_code(error, code):
    kind = getattr(errors if hasattr(errors, error) else raised, error)
    assert kind.exit_code == code
    assert issubclass(kind, errors.HarnessError)
    assert f"{error} " in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("name", "said"),
    [("metrik", "'metrik' is not an option; did you mean 'metric'?"),
     ("qqq", "'qqq' is not an option; known: layers, metric")],
)  # fmt: skip
def test_an_unknown_name_says_what_would_be_right(name, said):
    assert str(errors.UnknownName("option", name, ["metric", "layers"])) == said
    assert errors.suggest("x", []) == "there are none"
