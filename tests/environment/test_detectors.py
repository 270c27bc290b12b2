"""Each primitive is blinded in turn: it is named, with what needs it, and `doctor` and `diagnose` say the same."""

from __future__ import annotations

import ast
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

import harness.metrics
from harness.cli import exit_code_of
from harness.diagnosis import environment as diagnosis_environment
from harness.environment import detectors, doctor
from harness.environment.detectors import DTYPES, FAULTS, PRIMITIVES, WIDTHS
from harness.metrics import summarize

PACKAGE = Path(harness.metrics.__file__).parents[1]
PLANTED = len(DTYPES) * len(FAULTS) * sum(min(width, 3) for width in WIDTHS)


def without_nan(own, stand_in):
    """Return the reduction as it is on builds that drop NaN; of integers it is the reduction itself."""

    def reduce(a, *args, **kwargs):
        return own(mx.where(a == a, a, mx.array(stand_in, a.dtype)) if mx.issubdtype(a.dtype, mx.floating) else a)

    return reduce


def smallest_integer(own):
    """Return the maximum with integers reduced wrongly, and floats rightly."""
    return lambda a, *args, **kwargs: own(a) if mx.issubdtype(a.dtype, mx.floating) else mx.min(a)


def always(value):
    return lambda own: lambda a, *args, **kwargs: mx.full(a.shape, value, mx.bool_)


def reduced_to(value):
    return lambda own: lambda a, *args, **kwargs: mx.array(value)


NANS = PLANTED // 2  # NaN and -NaN, of four faults

# The primitive -> the function of MLX that is replaced, how, and how many planted values it then misses.
BLIND = {
    "the largest bits": ("max", smallest_integer, PLANTED - len(DTYPES) * len(FAULTS)),  # a row of one value is right
    "mx.isnan": ("isnan", always(False), NANS),
    "mx.isinf": ("isinf", always(False), NANS),
    "mx.isfinite": ("isfinite", always(True), PLANTED),
    "mx.max": ("max", lambda own: without_nan(own, -np.inf), NANS),
    "mx.min": ("min", lambda own: without_nan(own, np.inf), NANS),
    "mx.sum": ("sum", lambda own: without_nan(own, 0.0), NANS),
    "mx.any": ("any", reduced_to(False), PLANTED),
    "mx.all": ("all", reduced_to(True), PLANTED),
}


@pytest.fixture(autouse=True)
def no_timing(monkeypatch):
    """The machine's speed is not what is asked here."""
    monkeypatch.setattr(doctor, "gflops", lambda: 100.0)


def blind(monkeypatch, primitive: str) -> int:
    """Blind one primitive, and return how many planted values it misses."""
    if primitive == "the host's copy":
        monkeypatch.setattr(harness.metrics, "summarize", lambda row: summarize(np.nan_to_num(row, posinf=0, neginf=0)))
        return PLANTED
    name, how, missed = BLIND[primitive]
    monkeypatch.setattr(mx, name, how(getattr(mx, name)))
    return missed


def test_this_build_sees_everything():
    assert str(detectors.examine()) == f"{PLANTED} planted values found, none invented"
    found, _, said = diagnosis_environment.examine()
    assert found == [each for each in found if each.code != "DIA001"]
    assert said == f"detectors: {doctor.examine().probes[0].detail}"


def test_values_are_planted_as_named():
    rows = list(detectors._planted())
    assert len({row.name for row in rows}) == len(rows) == PLANTED
    for row in rows:
        held = np.array(row.array.astype(mx.float32))
        assert np.array_equal(held, row.values, equal_nan=True)
        assert np.count_nonzero(~np.isfinite(held)) == 1
        fault = row.name.split()[0]
        assert np.signbit(held[~np.isfinite(held)][0]) == fault.startswith("-")


@pytest.mark.parametrize("primitive", [each.name for each in PRIMITIVES])
def test_a_blind_primitive_is_named_by_doctor_and_diagnose_alike(monkeypatch, primitive: str):
    missed = blind(monkeypatch, primitive)
    verdict = detectors.examine()
    assert [each.name for each in verdict.wrong] == [primitive]
    assert str(verdict).startswith(f"{primitive}: {missed} planted values missed, such as ")
    (needed_by,) = (each.needed_by for each in PRIMITIVES if each.name == primitive)
    assert str(verdict).endswith(f"(needed by {needed_by})" if needed_by else "(no number of the harness needs it)")

    report = doctor.examine()
    assert not report.fit
    assert (report.probes[0].passed, report.probes[0].detail) == (False, str(verdict))
    found = [each for each in diagnosis_environment.examine()[0] if each.code == "DIA001"]
    assert [each.message for each in found] == [str(verdict)]
    assert found[0].evidence["primitives"] == [primitive]


def test_both_commands_fail_where_isnan_and_sum_are_blind(monkeypatch, capsys, tmp_path):
    blind(monkeypatch, "mx.isnan")
    blind(monkeypatch, "mx.sum")
    said = []
    for command in (["doctor"], ["diagnose", "--model", "llama-2k-f32", "--prompt-ids", "1,5,6"]):
        assert exit_code_of(command) == 1
        said.append(capsys.readouterr().out)
    for words in (f"mx.isnan: {NANS} planted values missed", f"mx.sum: {NANS} planted values missed"):
        assert [words in out for out in said] == [True, True], said


@pytest.mark.parametrize(
    ("name", "how", "example"),
    [
        ("isnan", always(True), "clean float16 of 1"),
        ("sum", lambda own: lambda a: own(a) * mx.nan, "clean float16 of 1"),
        ("any", reduced_to(True), "clean float16 of 1"),
    ],
)
def test_a_primitive_that_sees_what_is_not_there_is_named(monkeypatch, name: str, how, example: str):
    monkeypatch.setattr(mx, name, how(getattr(mx, name)))
    (found,) = detectors.examine().invented.items()
    assert (found[0].name, found[1][0], len(found[1])) == (f"mx.{name}", example, len(DTYPES) * len(WIDTHS))
    assert f"{len(DTYPES) * len(WIDTHS)} clean rows flagged, such as {example}" in doctor.examine().probes[0].detail


def test_a_fault_at_one_width_and_place_is_enough(monkeypatch):
    own = mx.isinf
    last = lambda a: mx.logical_and(own(a), mx.arange(a.size) < 4096)  # noqa: E731
    monkeypatch.setattr(mx, "isinf", last)
    (rows,) = detectors.examine().missed.values()
    assert set(rows) == {
        f"{fault} in {dtype} at {place} of {width}"
        for fault in ("inf", "-inf")
        for dtype in DTYPES
        for place, width in ((4096, 4097), (151_936 // 2, 151_936), (151_935, 151_936))
    }


def primitives_used(file: Path) -> set[str]:
    """Return the functions of `PRIMITIVES` that a file calls as `mx.name`."""
    names = {each.name for each in PRIMITIVES}
    attributes = (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute))
    return {f"mx.{node.attr}" for node in attributes if getattr(node.value, "id", "") == "mx"} & names


def test_what_no_number_needs_is_called_nowhere():
    apart = {Path(detectors.__file__), Path(doctor.__file__)}
    files = {file for file in PACKAGE.rglob("*.py") if "zoo" not in file.parts} - apart
    used = set().union(*map(primitives_used, files))
    assert used == {each.name for each in PRIMITIVES if each.needed_by and each.name.startswith("mx.")}
