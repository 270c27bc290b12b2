"""What an error suggests."""

from __future__ import annotations

from harness.vocabulary.errors import suggest


def test_the_nearest_name_is_suggested_and_never_the_wrong_one_itself() -> None:
    assert suggest("dial-m*e", ["dial-m*e", "dial-mean10-f32"]) == "did you mean 'dial-mean10-f32'?"
    assert suggest("x", ["x"]) == "there are none"
