"""`harness diagnose --save-case`: a case is kept only after a run of it has failed."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from harness.vocabulary import Status
from harness.vocabulary.verdict import fails

if TYPE_CHECKING:
    from harness.diagnosis import Diagnosis
    from harness.diagnosis.outcome.case import Written
    from harness.vocabulary import JobResult

_FAILS = (Status.FAILED, Status.REFUSED)


def save(found: Diagnosis, given: dict[str, Any], prompts: dict[str, Any]) -> str:
    """Write the case of a diagnosis, and say what it does; or say why there is none.

    `given` are the options of the command, `prompts` its prompts. Some faults are in no number that a case looks at,
    such as a broken weight that these prompts do not read: so the case is run before it is kept.
    """
    from harness.diagnosis.outcome.case import table_file, written
    from harness.support.files import write_text

    if found.verdict == "clean":
        return "no case was written: nothing was found that it could hold"
    file: Path = given["case_file"]
    clean = prompts["clean"] if prompts["prompt"] is None else prompts["prompt"]
    corrupted = prompts["corrupted"] if prompts["prompt"] is None else prompts["prompt"]
    answers = dict(zip(("answer", "wrong"), given["answers"] or (), strict=False))
    text = written(found, file, _source(given), {"clean": clean or [0], "corrupted": corrupted or [0], **answers})
    before, *after = _tried(text, file.name, given)
    if before.status not in (*_FAILS, Status.SKIPPED):
        return f"no case was written: a run of it {_ended(before)}, so it would not hold this fault"
    write_text(file, text.case)
    if text.table:
        write_text(table_file(file), text.table)
    return f"case: {_how(text, before, after)}"


def _tried(text: Written, name: str, given: dict[str, Any]) -> list[JobResult]:
    """Run the case where nobody sees it, and return its jobs: the one that should fail, and the remedy's, if any."""
    from harness.diagnosis.outcome.case import table_file
    from harness.jobs.planning import jobs_in
    from harness.jobs.run import ModelCache, run
    from harness.models import load_table

    with TemporaryDirectory() as folder:
        file = Path(folder, name)
        file.write_text(text.case, encoding="utf-8")
        if text.table:
            table_file(file).write_text(text.table, encoding="utf-8")
        table = load_table([table_file(file)] if text.table else [])
        jobs = jobs_in(file, table, given["allow_code"])
        cache = ModelCache(given["download"])
        return [run(job, cache) for job in jobs]


def _how(text: Written, before: JobResult, after: list[JobResult]) -> str:
    command = f"{text.command} {text.choices[0]}".rstrip()
    if before.status is Status.SKIPPED:
        return f"{command}  was not tried: {before.reason}"
    if not after:
        return f"{command}  fails until {text.remedy}"
    return f"{command}  fails, and with {text.choices[1]} it {_ended(after[0])}"


def _ended(job: JobResult) -> str:
    if job.status is Status.PASSED:
        return "passes"
    codes = ", ".join(sorted({found.code for found in job.findings if fails(found)}))
    return f"is {job.status}" + (f": {codes or job.reason}" if codes or job.reason else "")


def _source(given: dict[str, Any]) -> dict[str, Any]:
    """The table row of a model that the bundled table does not hold as it was diagnosed."""
    from harness.models import bundled, load_table

    name = given["model"]
    table = load_table(Path(each) for each in given["tables"])
    if name in table:
        row: dict[str, Any] = table[name].model_dump(
            exclude={"id", "dtype", "tags"}, exclude_defaults=True, mode="json"
        )
        return row if given["dtype"] or name not in bundled() else {}
    folder = Path(name).expanduser()
    if folder.is_dir():
        return {"source": "path", "path": str(folder.resolve())}
    return {"source": "hub", "repo": name, "revision": "main"}
