"""Laws about runs, each stated once: of our own taps on a job's model, of an engine seen from outside, and of our own
taps on every architecture.
"""

from __future__ import annotations

from typing import Protocol

from harness.laws.compared import Compared


class Patcher(Protocol):
    """Whoever patches: it makes the runs that a law is about, and hands over what must be the same."""

    @property
    def traced(self) -> Compared:
        """Its own unpatched runs, beside bare runs of the same prompts."""

    @property
    def own_put_back(self) -> Compared:
        """Runs that got their own activations back, beside bare runs."""

    @property
    def residual_put_in(self) -> Compared:
        """Runs that got the whole residual stream of the other prompt, beside runs of that prompt."""


def traced_is_bare(patcher: Patcher) -> str | None:
    """The engine's own unpatched runs have the bits of the bare model's."""
    return patcher.traced.breach(bit_for_bit=True)


def own_activations_change_nothing(patcher: Patcher) -> str | None:
    """A run patched with its own activations is unchanged, bit for bit."""
    return patcher.own_put_back.breach(bit_for_bit=True)


def whole_residual_restores_everything(patcher: Patcher) -> str | None:
    """The whole residual stream after any layer recovers 100 %."""
    return patcher.residual_put_in.breach()
