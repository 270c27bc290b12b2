"""Whoever listens hears what is said inside the block, and nobody has to."""

from __future__ import annotations

import pytest

from harness.support.progress import Phase, kept_in, last_kept, listening, over, say


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


def test_what_is_said_in_another_process_is_kept_and_the_last_word_counts(tmp_path):
    file = tmp_path / "gw0"
    assert last_kept(file) is None
    with kept_in(file, "a[native@one]"):
        say("loading a model with a name that is longer than what follows")
        say("layer", 3, 12)
        assert last_kept(file) == ("a[native@one]", Phase("layer", 3, 12))
    say("nobody hears this")
    assert last_kept(file) == ("a[native@one]", Phase("layer", 3, 12))


@pytest.mark.parametrize("content", [b"", b"[", b"[1", b"3\n", b'["a"]\n', b'["a", "b", 1, 2, 3]\n', b"\xff\n"])
def test_half_a_word_is_none(tmp_path, content):
    (tmp_path / "gw0").write_bytes(content)
    assert last_kept(tmp_path / "gw0") in (None, ("a", Phase()))


def test_a_folder_that_is_gone_stops_nobody(tmp_path):
    with kept_in(tmp_path / "gone" / "gw0", "a"):
        say("layer", 1, 2)
