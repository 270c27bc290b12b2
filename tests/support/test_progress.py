"""Whoever listens hears what is said inside the block, and nobody has to."""

from __future__ import annotations

import pytest

from harness.support.progress import listening, over, say


def test_without_a_listener_nothing_happens():
    say("loading")
    assert list(over([1, 2], "cell", 2)) == [1, 2]


def test_a_listener_hears_what_is_done_and_then_no_more():
    heard: list[tuple[str, int, int]] = []
    with listening(lambda *said: heard.append(said)):
        say("loading x")
        assert list(over("ab", "cell", 2)) == ["a", "b"]
    say("later")
    assert heard == [("loading x", 0, 0), ("cell", 0, 2), ("cell", 1, 2), ("cell", 2, 2)]


def test_an_error_inside_ends_the_listening():
    heard: list[tuple[str, int, int]] = []
    with pytest.raises(KeyboardInterrupt), listening(lambda *said: heard.append(said)):
        raise KeyboardInterrupt
    say("later")
    assert heard == []
