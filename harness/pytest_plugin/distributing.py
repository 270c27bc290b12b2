"""How xdist deals jobs out: each model to one worker, and never again the job that killed one."""

from __future__ import annotations

from typing import Any

import pytest

from harness.pytest_plugin.items import names_of
from harness.pytest_plugin.selecting import has_case_files


class ModelScheduling:
    """Replaces xdist's default distribution where there are case files."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Give each model to one worker, where the default distribution is asked for and there are case files."""
        if config.getoption("dist") != "load" or not has_case_files(config):
            return None
        from xdist.scheduler import LoadScopeScheduling

        class ByModel(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
            _holding = False

            def _split_scope(self, nodeid: str) -> str:
                names = names_of(nodeid)
                return names[2] if names else nodeid

            def _reschedule(self, node: Any) -> None:
                if not self._holding:
                    super()._reschedule(node)

            def remove_node(self, node: Any) -> Any:
                """xdist hands out again what was left of a dead worker, also the job that killed it; we do not."""
                self._holding = True
                try:
                    killer = super().remove_node(node)
                finally:
                    self._holding = False
                for scope, unit in list(self.workqueue.items()):
                    if killer in unit:
                        unit[killer] = True
                    if all(unit.values()):
                        del self.workqueue[scope]
                for other in self.assigned_work:
                    self._reschedule(other)
                return killer

        return ByModel(config, log)
