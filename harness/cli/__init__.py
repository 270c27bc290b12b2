"""The command line. Only this package prints for people and ends the process; commands load when they are asked for."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import click

from harness.cli.output import complain
from harness.cli.streams import lost, standing_output
from harness.support.ctrl_c import CtrlC, told_apart
from harness.support.version import VERSION
from harness.vocabulary.errors import (
    EXIT_FINDINGS,
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_PASSED,
    EXIT_USAGE,
    CaseFileError,
    HarnessError,
    described,
    device_failure,
    suggest,
)

SECTIONS = {
    "Everyday": {
        "run": "Run case files and give a verdict.",
        "diagnose": "Say where a NaN, an inf or a silent mistake comes from.",
        "patch": "Run one sweep and print its table.",
        "explain": "Explain a finding code, or find the codes behind what was seen.",
    },
    "Cases": {
        "init": "Write a first case, configuration and a CI workflow.",
        "list": "List the jobs that `run` would run.",
        "show": "Show a case resolved: jobs, tokens, sites, snapshots.",
        "validate": "Check case files without loading a model.",
        "snapshots": "Show, review, update or prune the stored numbers.",
    },
    "Engines and models": {
        "conformance": "Hold an engine to the laws of patching.",
        "replay": "Check published or recorded numbers without a model.",
        "models": "List models, fetch them, or check every architecture.",
        "zoo": "Plant known faults and see whether `diagnose` names them.",
    },
    "Results": {
        "compare": "Show what differs between two result files.",
        "report": "Render a result file as HTML, Markdown, JUnit or annotations.",
        "merge": "Put the results of shards together.",
    },
    "About": {
        "doctor": "Show versions and device, and test what numbers rest on here.",
        "schema": "Print the JSON Schema of cases, model tables or results.",
        "completion": "Print the completion script of a shell.",
    },
}
COMMANDS = {name: about for section in SECTIONS.values() for name, about in section.items()}


COMPLETION = "_HARNESS_COMPLETE"
"""The variable in which a shell asks for completions: click derives it from the program's name."""


class _Lazy(click.Group):
    """Knows every command's name and purpose, and imports only the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"harness.cli.{cmd_name}_command").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise click.UsageError(f"{args[0]!r} is not a command; {suggest(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), about) for name, about in commands.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="harness")
def cli() -> None:
    """Diagnostic and regression tests for activation patching on MLX language models.

    Exit codes: 0 passed, 1 findings, 2 interrupted, 3 internal error, 4 wrong usage or a bad case file, 5 nothing ran.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with the exit code that the help text promises."""
    _never_pass_unasked()
    _end_as_ctrl_c_does()
    with standing_output() as sinks, told_apart():
        code = exit_code_of(args)
    if problem := lost(sinks):
        complain(problem)
        code = code or EXIT_USAGE
    sys.exit(code)


def _never_pass_unasked() -> None:
    """Let `os._exit(0)` of somebody's engine end this process as what it is: no verdict, and so no 0."""
    own, leave = os.getpid(), os._exit
    # pytest has the stream itself while a job runs. A shell may have closed it.
    screen = os.dup(2) if sys.stderr is not None else None

    def left(status: int) -> NoReturn:
        if os.getpid() == own and status == EXIT_PASSED:
            if screen is not None:
                os.write(screen, b"harness: somebody's code ended the process: os._exit(0)\n")
            status = EXIT_INTERNAL
        leave(status)

    os._exit = left


def _end_as_ctrl_c_does() -> None:
    """Let SIGTERM, by which a runner or a queue ends a command, do what Ctrl-C does: what there is gets written."""

    def stop(signum: int, frame: FrameType | None) -> None:
        ctrl_c = signal.getsignal(signal.SIGINT)
        if not callable(ctrl_c):  # ignored, as in a shell's background
            raise CtrlC
        ctrl_c(signal.SIGINT, frame)

    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, stop)


def exit_code_of(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error ends as one message, never as a traceback."""
    try:
        code = cli.main(args=list(args) if args is not None else None, prog_name="harness", standalone_mode=False)
        return code if isinstance(code, int) else EXIT_PASSED
    except (KeyboardInterrupt, click.Abort):
        complain("interrupted")
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except HarnessError as error:
        # Every problem of a case file has a line of its own, and nothing in it breaks one.
        complain(*(str(error).split("\n") if isinstance(error, CaseFileError) else [str(error)]))
        return error.exit_code
    except SystemExit as end:
        if COMPLETION in os.environ:  # click ends the process itself when a shell asks it for completions
            raise
        complain(f"somebody's code ended the process: SystemExit({end.code!r})")
        return EXIT_INTERNAL
    except Exception as error:  # noqa: BLE001  every error ends as one message
        return _told(error)


def _told(error: Exception) -> int:
    """Say what nobody raised on purpose, and return the exit code."""
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        click.echo(f"harness: {error.filename or 'a file'} cannot be written: {error.strerror}", err=True)
        return EXIT_USAGE
    if os.environ.get("HARNESS_TRACEBACK"):
        raise error
    if failed := device_failure(error):
        complain(f"the device failed: {failed}")
        return EXIT_FINDINGS
    # A folder that may not be looked into, wherever a path is asked for what it is; or the current one is gone.
    if isinstance(error, OSError) and (error.filename is not None or isinstance(error, FileNotFoundError)):
        complain(f"{error.filename or 'the current folder'}: {error.strerror}")
        return EXIT_USAGE
    complain(f"internal error: {described(error)}")
    complain("set HARNESS_TRACEBACK=1 for the traceback, and please report it")
    return EXIT_INTERNAL


_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
