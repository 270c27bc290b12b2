"""How xdist deals jobs out: each model to one worker, and never again the job that killed one."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import pytest

from harness.pytest_plugin.items import names_of
from harness.pytest_plugin.limiting import JobLimits
from harness.pytest_plugin.selecting import has_case_files


class ModelScheduling:
    """Replaces xdist's default distribution where there are case files."""

    def __init__(self, limits: JobLimits):
        self.limits = limits

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Give each model to one worker, where the default distribution is asked for and there are case files."""
        if config.getoption("dist") != "load" or not has_case_files(config):
            return None
        scheduler = _by_model(self.limits)(config, log)
        self.limits.node_of = scheduler.node_of
        return scheduler


def _by_model(limits: JobLimits) -> Any:
    """Return the class of the scheduler: xdist is imported by those who have it."""
    from xdist.scheduler import LoadScopeScheduling

    class ByModel(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
        _holding = False

        def _split_scope(self, nodeid: str) -> str:
            names = names_of(nodeid)
            return names[2] if names else nodeid

        def _reschedule(self, node: Any) -> None:
            if not self._holding:
                super()._reschedule(node)

        def node_of(self, nodeid: str) -> Any:
            """Return the worker that has been given a job."""
            work = list(self.assigned_work.items())
            return next((node for node, units in work for unit in list(units.values()) if nodeid in unit), None)

        def remove_node(self, node: Any) -> Any:
            """xdist hands out again what was left of a dead worker, also the job that killed it; we do not."""
            self._holding = True
            try:
                killer = super().remove_node(node)
            finally:
                self._holding = False
            # A worker may die before its first job, and after the last word of one.
            _withdraw(self.workqueue, killer if killer in limits.running | limits.reported else None)
            for other in self.assigned_work:
                self._reschedule(other)
            return killer if killer in limits.running else None

    return ByModel


def _withdraw(queue: MutableMapping[str, dict[str, bool]], killer: str | None) -> None:
    """Take a job out of the queue, and the scopes of which nothing is left."""
    for scope, unit in list(queue.items()):
        if killer in unit:
            unit[killer] = True
        if all(unit.values()):
            del queue[scope]
