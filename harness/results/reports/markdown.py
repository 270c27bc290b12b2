"""Markdown for a pull request or a job summary: the verdict, what failed, then the rest folded away.

Everything that a case file or a model can put into a result is escaped: a title stays text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from harness.results.reports.marks import SIGN, sign_of
from harness.results.reports.summary import (
    MOVES,
    around,
    counts,
    duration,
    failures,
    moves,
    place,
    strongest,
    undefined_pairs,
    unexpected,
)
from harness.vocabulary import Environment, Finding, JobResult, RunResult
from harness.vocabulary.visible import visible
from harness.vocabulary.words import number_of

LONGEST = 60_000
"""GitHub refuses a comment of more than 65,536 characters."""


def render(run: RunResult) -> str:
    """Return the report; where it would be too long for a comment, the folded part is cut and says so."""
    head = "\n".join([*_verdict(run), *_failed(run), "", ""])
    rest = "\n".join([*_jobs(run.jobs), "", *_environment(run.environment), ""])
    if len(head) + len(rest) > LONGEST:
        rest = (
            f"The table of {number_of(len(run.jobs), 'job')} is too long to stand here; it is in "
            "the JSON and HTML reports.\n"
        )
    if len(head) + len(rest) > LONGEST:
        kept = head[: LONGEST - len(rest) - 200].rpartition("\n")[0]
        head = f"{kept}\n\nMore failures than fit here; the JSON and HTML reports have them all.\n\n"
    return head + rest


def text(value: object) -> str:
    """Return text that Markdown shows as it is, on one line."""
    line = visible(" ".join(str(value).split()))
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#|!~@])", r"\\\1", line)


def code(value: object) -> str:
    """Return a code span, whatever backticks the value holds; `|` would end a table's cell even there."""
    line = visible(" ".join(str(value).split())).replace("|", "\\|")
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table whose cells are Markdown already."""
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _verdict(run: RunResult) -> Iterator[str]:
    yield f"## {SIGN[run.verdict]} harness: {run.verdict.value.upper()}"
    yield ""
    yield f"{counts(run)} {duration(run)}, exit code {run.exit_code}."
    known = dict.fromkeys(f"known: {each.code} {each.known}" for job in run.jobs for each in job.findings if each.known)
    for note in (*run.notes, *known):
        yield ""
        yield text(note)


def _failed(run: RunResult) -> Iterator[str]:
    found = list(failures(run))
    if not found:
        return
    yield ""
    yield "### What failed"
    for each in found:
        yield ""
        what = f"**{text(each.finding.code)}** " if each.finding else ""
        where = f" at {text(each.finding.site)}" if each.finding and each.finding.site else ""
        more = f" ({each.others} more)" if each.others else ""
        yield f"- {SIGN[each.job.status]} {code(each.job.id)} {what}{text(each.reason)}{where}{more}"
        if each.finding:
            stated = f" ({code(place(each.job, each.finding))})" if "line" in each.finding.evidence else ""
            yield f"  - {text(each.finding.hint)}{stated}"
            yield from _moved(each.finding)
        yield f"  - again: {code(each.command)}"


def _moved(finding: Finding) -> Iterator[str]:
    """Yield the numbers that moved furthest from a snapshot, set in below the item of its failure."""
    if rows := moves(finding):
        yield ""
        yield from (f"  {line}" for line in table(MOVES, [list(map(text, row)) for row in rows]))
        yield ""


def _jobs(jobs: Sequence[JobResult]) -> Iterator[str]:
    yield f"<details><summary>{number_of(len(jobs), 'job')}</summary>"
    yield ""
    yield from table(("", "case", "model", "engine", "baseline", "strongest effect", "findings"), map(_row, jobs))
    yield ""
    for job in jobs:
        for undefined in undefined_pairs(job.curves):
            yield f"- {code(job.id)} has undefined pairs, which are in no mean: {text(undefined)}"
            yield ""
    yield "</details>"


def _row(job: JobResult) -> Sequence[str]:
    curve = job.curves[0] if job.curves else None
    expected = sorted({each.code for each in job.findings if each.expected})
    codes = [*sorted({each.code for each in unexpected(job)}), *(f"({each})" for each in expected)]
    return (
        sign_of(job),
        text(job.case),
        text(job.model),
        text(job.engine),
        text(f"{curve.metric} {curve.baseline.text()}{around(curve.pairs)}") if curve else "",
        text(strongest(job, curve, interval=True)) if curve else text(job.reason or ""),
        text(" ".join(codes)),
    )


def _environment(env: Environment) -> Iterator[str]:
    packages = ", ".join(f"{name} {version}" for name, version in env.packages.items())
    yield f"<sub>harness {text(env.harness)}, Python {text(env.python)}, {text(env.backend)} on {text(env.device)}, "
    yield f"{text(env.platform)}; {text(packages)}</sub>"
