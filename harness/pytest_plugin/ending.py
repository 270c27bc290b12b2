"""The end of a session with case files: the verdict, the exit code, the result file and the summary."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.pytest_plugin.gathering import ResultGathering
from harness.pytest_plugin.selecting import JobSelecting, has_case_files, is_worker
from harness.vocabulary.errors import EXIT_NOTHING_RAN, EXIT_PASSED
from harness.vocabulary.visible import visible
from harness.vocabulary.words import number_of

if TYPE_CHECKING:
    from harness.casefile.known import KnownFailures, KnownVerdict
    from harness.vocabulary import RunResult


class SessionEnding:
    """Gives one verdict over all results, in the process that owns the terminal."""

    def __init__(
        self,
        config: pytest.Config,
        selecting: JobSelecting,
        gathering: ResultGathering,
        known: KnownFailures | None = None,
    ):
        self.config, self.selecting, self.gathering, self.known = config, selecting, gathering, known
        self.run_result: RunResult | None = None
        self.session: pytest.Session | None = None
        self.refusal: str | None = None
        self.started = datetime.now(UTC)
        self.clock = time.perf_counter()

    # Innermost of the wrappers: after syrupy has had its say, before the terminal prints its summary.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        unwritten = None
        try:
            outcome = yield
        except OSError as error:  # pytest's JUnit file
            outcome, unwritten = None, str(error)
        self.refusal, self.session = self.selecting.refusal, session
        if self.refusal:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
        if is_worker(self.config) or not self._concerned():
            return outcome
        self.run_result = self._verdict(broken=session.exitstatus == pytest.ExitCode.INTERNAL_ERROR)
        if not self._pytest_has_its_say(session.exitstatus):
            session.exitstatus = self.run_result.exit_code
        if unwritten is not None:
            self._unwritten(f"{self.config.getoption('xmlpath', None)} cannot be written: {unwritten}", session)
        if name := self.config.getoption("harness_json"):
            self._write(self.run_result, Path(name), session)
        return outcome

    def _unwritten(self, why: str, session: pytest.Session) -> None:
        from harness.vocabulary import Status
        from harness.vocabulary.verdict import graver

        assert self.run_result is not None
        self.run_result = graver(self.run_result, Status.REFUSED, why)
        session.exitstatus = self.run_result.exit_code

    def _pytest_has_its_say(self, status: int) -> bool:
        """Return whether pytest's own exit code stands: beside cases that pass or were skipped, ordinary tests decide.

        Tests that ran and passed make a session of more than skipped cases, which is what 5 would say of it.
        """
        assert self.run_result is not None
        if self.run_result.exit_code not in (EXIT_PASSED, EXIT_NOTHING_RAN):
            return False
        own = [pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED]
        if self.config.getoption("harness_write_known"):  # jobs that failed are known by now
            own.append(pytest.ExitCode.TESTS_FAILED)
        return self.gathering.ordinary_tests_ran or status not in own

    def _write(self, run: RunResult, path: Path, session: pytest.Session) -> None:
        from harness.results.json import write

        try:
            write(run, path)
        except OSError as error:
            self._unwritten(f"{path} cannot be written: {error}", session)

    def _concerned(self) -> bool:
        """Return whether the session has anything to do with case files."""
        seen = self.gathering
        return (
            bool(seen.results or self.selecting.planned)
            or seen.bad_case_file
            or (seen.interrupted and has_case_files(self.config))
        )

    def _verdict(self, broken: bool) -> RunResult:
        from harness.environment.facts import environment, use_wanted_device
        from harness.results.shards import held_to_plan, left_out, with_floor
        from harness.support.checkout import project_text
        from harness.vocabulary import RunResult, Status

        seen, known = self.gathering, self._known()
        if not self.refusal:
            use_wanted_device(self.config.getoption("harness_device"))  # where workers ran the jobs, and this one none
        happened = {
            Status.REFUSED: seen.bad_case_file or self.refusal,
            Status.FAILED: known.stale,
            Status.INTERRUPTED: seen.interrupted,
            Status.CRASHED: broken,
        }
        jobs = [*seen.results, *self.selecting.left_out]
        looking = self.config.option.collectonly or self.config.option.setuponly
        plan = () if looking else self.selecting.own
        verdict, code, missing = held_to_plan(jobs, plan, *(status for status, so in happened.items() if so))
        run = RunResult(
            verdict=verdict,
            exit_code=code,
            environment=environment(),
            jobs=tuple(sorted(jobs, key=lambda job: (job.case_file, job.id))),
            started=self.started.isoformat(timespec="seconds"),
            duration_s=round(time.perf_counter() - self.clock, 3),
            shard=self.config.getoption("harness_shard"),
            planned=self.selecting.planned,
            plan=self.selecting.plan,
            notes=(*self._notes(), *known.stale, *known.notes, *seen.notes, *missing, *left_out(jobs)),
            project=project_text(self.config.invocation_params.dir),
            repeat=self.selecting.repeated,
        )
        return with_floor(run, self.config.getoption("harness_min_jobs"))

    def _known(self) -> KnownVerdict:
        from harness.casefile.known import KnownFailures, KnownVerdict
        from harness.jobs.known import verdict_of, with_known, written_known

        narrowed, jobs = self.selecting.selection.narrowed, self.selecting.all_jobs
        if path := self.config.getoption("harness_write_known"):
            strict = self.config.getoption("harness_strict")
            known = self.known or KnownFailures()
            self.known = known = written_known(Path(path), known, self.gathering.results, jobs, narrowed, strict)
            self.gathering.replace(lambda result: with_known(result, known, strict))
        if self.known is None:
            return KnownVerdict()
        return verdict_of(self.known, self.gathering.results, jobs, narrowed)

    def _notes(self) -> tuple[str, ...]:
        shard, planned, seen = self.config.getoption("harness_shard"), self.selecting.planned, self.gathering
        empty = bool(shard and planned and not seen.results and not seen.interrupted)
        said = list(self.selecting.run.notes) if self.selecting.run else []
        if empty:
            said.append(f"none of the {number_of(len(planned), 'job')} planned falls to shard {shard}")
        if seen.limits.unkept:
            said.append("time limits were not kept: they need `harness run`, or pytest with -n")
        return tuple(said)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.refusal:
            terminalreporter.write_line(visible(f"ERROR: {self.refusal}", keep="\n"), red=True)
        if (run := self.run_result) is None or self.config.getoption("no_summary"):
            return
        # What pytest hands to this hook is the exit code before anybody had a say.
        exitstatus = self.session.exitstatus if self.session else run.exit_code
        if run.exit_code != exitstatus:
            note = "the exit code is that of the tests beside the case files"
            run = replace(run, exit_code=int(exitstatus), notes=(*run.notes, note))
        from harness.results.reports.terminal import console, print_run

        terminalreporter.write_sep("-", "harness")
        screen = console(terminalreporter._tw._file, terminalreporter._tw.fullwidth)
        print_run(run, screen, self.config.getoption("harness_strict"))

    def pytest_unconfigure(self) -> None:
        if run := self.selecting.run:
            run.result, run.refusal = self.run_result, self.refusal
