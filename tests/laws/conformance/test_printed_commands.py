"""The command that a report prints below a breach shows that breach, where it alone is run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from project import environment

from harness.cli import exit_code_of

ZOO = Path(__file__).parent
ROWS = {
    "last_position_only": "llama", "missing_layer": "llama", "hook_never_fires": "llama", "wrong_layer": "llama",
    "drifting": "llama", "leaking": "llama", "aliasing": "llama", "constant_in_metric": "llama",
    "first_tokens_only": "llama", "mse_like_l2": "llama", "noisy_trace": "llama", "other_tokens": "llama",
    "accepts_unknown_names": "llama", "own_idea_of_names": "llama", "leaves_wrappers": "llama",
    "leaves_classes": "llama", "changes_parameter": "llama", "untidy_on_error": "llama",
    "untidy_on_interrupt": "llama", "raising": "llama", "fraction": "llama", "end_aligned": "llama",
    "hook_fires_twice": "llama", "guarded_zero": "dial-nan-f16", "narrow_subtraction": "dial-extreme-f16",
    "narrow_sum": "dial-152k-f16", "guarded_zero_and_nan": "dial-nan-f16", "last_call_only": "iquestloopcoder",
    "reorders": "llama", "reorders_and_changes": "llama",
}  # fmt: skip
"""Engine of the zoo -> a model on which it breaks a law."""
QUICK = ("last_position_only", "untidy_on_error")
BROKEN = re.compile(r"^[A-Z]{3}\d{3} .*: (\S+)(?: \((.*)\))? at (\S+)$")


def printed(out: str) -> list[tuple[tuple[str, ...], str]]:
    """Return each breach of a screen, as law, kind of mistake and row, with the command below it."""
    lines = out.splitlines()
    at = [(match.groups(""), i) for i, line in enumerate(lines) if (match := BROKEN.match(line))]
    ends = [i for _, i in at[1:]] + [len(lines)]
    return [
        (breach, next(line.strip() for line in lines[i:end] if line.startswith("    harness conformance")))
        for (breach, i), end in zip(at, ends, strict=True)
    ]


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in ROWS])
def test_a_printed_command_shows_the_same_breach(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ZOO))
    monkeypatch.chdir(tmp_path)
    quick = ["--law", "residual", "--law", "after-error"] if name in QUICK else []
    words = ["conformance", "-e", f"defects:{name}", "--allow-code", "--row", ROWS[name], "--strict", *quick]
    assert exit_code_of(words) == 1
    found = printed(capsys.readouterr().out)
    assert found
    for breach, command in found:
        assert not re.search(r"(^|[\s=])/", command), "an absolute path"
        # A process of its own: what an engine keeps from one answer to the next is gone.
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(command)], cwd=tmp_path, env=environment(PYTHONPATH=str(ZOO)),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1, (command, done.stdout, done.stderr)
        assert breach in [again for again, _ in printed(done.stdout)], (command, done.stdout)


def test_every_engine_of_the_zoo_has_a_model_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ZOO))
    import defects

    zoo = {name for name, found in vars(defects).items() if isinstance(found, defects.Engine)}
    assert zoo - {"sound", "stops_early", "warning", "unseen"} == set(ROWS)
