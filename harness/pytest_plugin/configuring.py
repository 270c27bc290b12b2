"""What `[tool.harness]` says, for `pytest cases/`: tables, strictness and the results folder.

Paths, workers and tags are pytest's own business (`testpaths`, `-n`, `-m`). `harness run` has read the file already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness.pytest_plugin.selecting import from_harness_run

if TYPE_CHECKING:
    from harness.casefile.known import KnownFailures

_OPTIONS = {
    "models": "harness_models",
    "strict": "harness_strict",
    "require-models": "harness_require_models",
    "download": "harness_download",
    "results": "harness_results",
    "job-timeout": "harness_job_timeout",
    "known": "harness_known",
}


def known_failures(config: pytest.Config) -> KnownFailures | None:
    """Return the failures that are known of an engine, if a file says so. Raises pytest.UsageError for a faulty one."""
    from harness.vocabulary.errors import UsageError
    from harness.vocabulary.visible import visible

    if (path := config.getoption("harness_known")) is None:
        return None
    from harness.jobs.known import read_known

    try:
        return read_known(path)
    except UsageError as error:
        raise pytest.UsageError(visible(str(error), keep="\n")) from error


def apply_configuration(config: pytest.Config) -> None:
    """Fill the options that have their default. Raises pytest.UsageError for a faulty file."""
    from harness.support.configuration import load, refuse_linked_results
    from harness.vocabulary.errors import UsageError
    from harness.vocabulary.visible import visible

    if from_harness_run(config):
        return
    try:
        values = load(config.invocation_params.dir).values
        if "results" not in values and config.option.harness_results == "results":
            refuse_linked_results("results")
    except UsageError as error:
        raise pytest.UsageError(visible(str(error), keep="\n")) from error
    for key, option in _OPTIONS.items():
        if key in values and getattr(config.option, option) in ([], False, None, "results"):
            setattr(config.option, option, values[key])
