"""When two rows, or two recoveries, are the same: each edge of the one table, and that there is no second one."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from harness.casefile.language.schema import Tolerance
from harness.metrics.tolerances import (
    BASELINES,
    POINTS,
    QUANTIZED,
    SHARES,
    Work,
    baseline_tolerance,
    equal,
    equal_readings,
    recovery_tolerance,
    relative_difference,
    row_tolerance,
    same_bits,
    stored_tolerance,
    work_between,
)
from harness.vocabulary import ModelCard, Reading, State

PACKAGE = Path(__file__).parents[2] / "harness"
DTYPES = ("float32", "float16", "bfloat16")

ROW_EDGES = [
    (Work.SAME, "float32", 1e-5), (Work.SAME, "float16", 2e-3), (Work.SAME, "bfloat16", 2e-2),
    (Work.OTHER_BATCH, "float32", 3e-5), (Work.OTHER_BATCH, "float16", 2e-2), (Work.OTHER_BATCH, "bfloat16", 1e-1),
    (Work.OTHER_KERNELS, "float32", 1e-5), (Work.OTHER_KERNELS, "float16", 1e-2),
    (Work.OTHER_KERNELS, "bfloat16", 6e-2),
    (Work.OTHER_CODE, "float32", 1e-5), (Work.OTHER_CODE, "float16", 2e-2), (Work.OTHER_CODE, "bfloat16", 1e-1),
    (Work.IN_PIECES, "float32", 1e-4), (Work.IN_PIECES, "float16", 2e-2), (Work.IN_PIECES, "bfloat16", 2e-1),
]  # fmt: skip
RECOVERY_EDGES = [
    *((Work.SAME, dtype, 0.01) for dtype in DTYPES),
    (Work.OTHER_BATCH, "float32", 0.05), (Work.OTHER_BATCH, "float16", 2.0), (Work.OTHER_BATCH, "bfloat16", 10.0),
    (Work.OTHER_CODE, "float32", 0.001),
    *((Work.OTHER_ORDER, dtype, 0.05) for dtype in DTYPES),
    *((Work.OTHER_FORMULA, dtype, 0.5) for dtype in DTYPES),
    (Work.STORED, QUANTIZED, 0.15), (Work.STORED_ELSEWHERE, QUANTIZED, 0.15),
    (Work.STORED, "float32", 0.01), (Work.STORED, "float16", 0.05), (Work.STORED, "bfloat16", 0.05),
    (Work.STORED_ELSEWHERE, "float32", 0.01), (Work.STORED_ELSEWHERE, "float16", 10.0),
    (Work.STORED_ELSEWHERE, "bfloat16", 10.0),
]  # fmt: skip
BASELINE_EDGES = [
    (Work.STORED, QUANTIZED, 4e-4), (Work.STORED_ELSEWHERE, QUANTIZED, 4e-4),
    (Work.STORED, "float32", 2.5e-5), (Work.STORED, "float16", 1e-4), (Work.STORED, "bfloat16", 1e-4),
    (Work.STORED_ELSEWHERE, "float32", 2.5e-5), (Work.STORED_ELSEWHERE, "float16", 0.05),
    (Work.STORED_ELSEWHERE, "bfloat16", 0.05),
]  # fmt: skip


def names(value: object) -> str:
    return value.name if isinstance(value, Work) else str(value)


def two_rows(dtype: str, apart: float) -> tuple[mx.array, mx.array]:
    """Return two rows whose largest logit is 4, and whose difference is `apart` of it, to an eighth bit."""
    return tuple(mx.array([-4.0, difference, 1.0]).astype(getattr(mx, dtype)) for difference in (0.0, 4 * apart))


@pytest.mark.parametrize(("work", "dtype", "edge"), ROW_EDGES, ids=names)
def test_the_edge_of_every_row_of_logits(work: Work, dtype: str, edge: float) -> None:
    assert equal(*two_rows(dtype, 0.99 * edge), work)
    assert not equal(*two_rows(dtype, 1.01 * edge), work)


@pytest.mark.parametrize(("work", "dtype", "edge"), RECOVERY_EDGES, ids=names)
def test_the_edge_of_every_row_of_recoveries(work: Work, dtype: str, edge: float) -> None:
    assert equal_readings(Reading.of(40.0), Reading.of(40.0 - 0.99 * edge), work, dtype)
    assert not equal_readings(Reading.of(40.0), Reading.of(40.0 - 1.01 * edge), work, dtype)


def test_every_row_of_the_table_has_its_edges_here() -> None:
    rows = {(work, dtype) for work, row in SHARES.items() for dtype in row}
    recoveries = {(work, dtype) for work, row in POINTS.items() for dtype in row}
    assert rows == {(work, dtype) for work, dtype, _ in ROW_EDGES}
    assert recoveries == {(work, dtype) for work, dtype, _ in RECOVERY_EDGES}
    assert {(work, dtype, row[dtype]) for work, row in BASELINES.items() for dtype in row} == set(BASELINE_EDGES)
    assert {work for work, _ in rows | recoveries} == set(Work), "a reason that no value has"


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_a_case_states_goes_before_what_was_measured(dtype: str) -> None:
    stated = Tolerance(recovery_points={"float16": 3.0}, baseline_relative=0.2)
    points, relative = stored_tolerance(stated, dtype)
    assert (points, relative) == (3.0 if dtype == "float16" else recovery_tolerance(Work.STORED, dtype), 0.2)


def test_between_two_backends_no_less_is_allowed_than_on_one() -> None:
    stated = Tolerance(recovery_points=3.0, cross_backend_points=1.0)
    assert stored_tolerance(stated, "float32", Work.STORED_ELSEWHERE) == (3.0, 2.5e-5)


def test_quantized_weights_have_a_row_of_their_own_where_activations_are_float32() -> None:
    assert stored_tolerance(Tolerance(), "float32", quantized=True) == (0.15, 4e-4)
    assert stored_tolerance(Tolerance(), "float16", quantized=True) == (0.05, 1e-4)
    assert stored_tolerance(Tolerance(recovery_points=1.0), "float32", quantized=True) == (1.0, 4e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tf32_is_no_rounding_of_float32_and_another_order_is(dtype: str) -> None:
    """Measured on every float32 sweep of the bundled cases: at most 0.001 points and 8e-6 in another order, and in
    products of 11 bits at least 4e-5, with 0.012 points in all sweeps but one."""
    for work in (Work.STORED, Work.STORED_ELSEWHERE):
        assert recovery_tolerance(work, dtype) > 0.001
        assert baseline_tolerance(work, dtype) > 8e-6
        if dtype == "float32":
            assert recovery_tolerance(work, dtype) < 0.0118
            assert baseline_tolerance(work, dtype) < 4e-5


def test_an_unknown_dtype_gets_the_narrowest_tolerance() -> None:
    assert row_tolerance(Work.OTHER_BATCH, mx.float64) == 3e-5
    assert recovery_tolerance(Work.OTHER_BATCH, "float8") == 0.05


def test_another_formula_is_held_to_what_a_case_holds_the_oracle_to() -> None:
    assert set(POINTS[Work.OTHER_FORMULA].values()) == {Tolerance().oracle_points}


def card(layers: int, dtype: str) -> ModelCard:
    return ModelCard("m", "synthetic", "llama", layers, 64, dtype)


@pytest.mark.parametrize(("layers", "times"), [(4, 1), (16, 1), (36, 1.5), (64, 2)])
def test_deep_models_carry_on_more_roundings(layers: int, times: float) -> None:
    edge, deep = times * 1e-2, card(layers, "float16")
    assert equal(*two_rows("float16", 0.99 * edge), Work.OTHER_KERNELS, card=deep)
    assert not equal(*two_rows("float16", 1.01 * edge), Work.OTHER_KERNELS, card=deep)
    assert not equal(*two_rows("float16", 0.99 * edge), Work.OTHER_KERNELS, most=1e-3, card=deep)


def test_widened_logits_are_no_more_exact_than_the_model() -> None:
    assert equal(*two_rows("float32", 0.99e-2), Work.OTHER_KERNELS, card=card(4, "float16"))
    assert not equal(*two_rows("float32", 1.01e-2), Work.OTHER_KERNELS, card=card(4, "float16"))
    assert not equal(*two_rows("float32", 0.99e-2), Work.OTHER_KERNELS, card=card(4, "float32"))


def test_sweeps_that_went_another_way_are_other_work() -> None:
    assert work_between("mine", "mine") is work_between("stepwise", "stepwise") is Work.SAME
    assert work_between("one-pass", "one-pass") is Work.OTHER_BATCH
    assert work_between("one-pass", "stepwise") is Work.OTHER_BATCH


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16, mx.float32, mx.float64], ids=str)
def test_every_bit_counts_and_nan_equals_itself(dtype: mx.Dtype) -> None:
    with mx.stream(mx.cpu):
        row = mx.array([1.0, np.nan, -0.0, np.inf]).astype(dtype)
        assert same_bits(row, mx.array(row))
        assert not same_bits(row, mx.array([1.0, np.nan, 0.0, np.inf]).astype(dtype)), "the sign of a zero"
        assert not same_bits(row, row[:3])
        next_to_one = mx.array([1 + 2.0**-7]).astype(dtype)
        assert not same_bits(next_to_one, mx.ones((1,), dtype))


def test_another_dtype_is_another_row() -> None:
    assert not same_bits(mx.ones((2,), mx.float16), mx.ones((2,), mx.bfloat16))


def test_what_may_differ_can_be_narrowed() -> None:
    one, other = mx.array([1.0, 2.0]), mx.array([1.0, 2.00001])
    assert equal(one, other, Work.OTHER_BATCH)
    assert not equal(one, other, Work.OTHER_BATCH, most=1e-6)


def test_what_two_recoveries_may_differ_by_can_be_widened() -> None:
    one, other = Reading.of(10.0), Reading.of(11.0)
    assert not equal_readings(one, other, Work.SAME, "float32")
    assert equal_readings(one, other, Work.SAME, "float32", least=1.0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Reading.absent(State.NAN), Reading.absent(State.NAN), True),
        (Reading.absent(State.NAN), Reading.absent(State.UNDEFINED), False),
        (Reading.absent(State.NAN), Reading.of(0.0), False),
        (None, Reading.of(0.0), False),
        (None, None, True),
    ],
    ids=["a state", "another state", "a state and 0", "missing and 0", "both missing"],
)
def test_what_has_no_value_equals_only_its_like(one: Reading | None, other: Reading | None, same: bool) -> None:
    assert equal_readings(one, other, Work.OTHER_FORMULA, "bfloat16") is same
    assert equal_readings(other, one, Work.OTHER_FORMULA, "bfloat16") is same


def test_nan_in_both_rows_is_a_difference_unless_asked_for() -> None:
    one, other = mx.array([1.0, np.nan, np.inf]), mx.array([1.001, np.nan, np.inf])
    assert relative_difference(one, other) == math.inf
    assert relative_difference(one, other, equal_nan=True) == pytest.approx(1e-3, rel=1e-3)
    assert not equal(one, mx.array([1.0, np.nan, -np.inf]), Work.SAME, equal_nan=True), "the sign of an infinity"
    assert not equal(one, mx.array([np.nan, 1.0, np.inf]), Work.SAME, equal_nan=True), "NaN at another id"


def test_rows_of_other_lengths_differ() -> None:
    assert relative_difference(mx.zeros(3), mx.zeros(1)) == math.inf
    assert not equal(mx.zeros(3), mx.zeros(1), Work.IN_PIECES)


# -- no second table ---------------------------------------------------------------------------------------------------

OTHER_TABLES = {
    "diagnosis/zoo/injection.py HUGE": "values near the end of a dtype, to be planted",
    "laws/answers.py _LARGEST": "limits of dtypes: powers of two below which logits can be scaled",
    "models/sources/groundtruth/closed_form.py POINTS": "what a ground-truth model promises of its own closed form; "
    "the layer of models stands beside that of metrics",
    "results/replay/reading.py _SLACK": "roundings of a dtype; results are read where MLX, and so the table, is absent",
}
"""Tables of numbers by dtype that say nothing of how far two rows or recoveries may be apart."""


def tables_by_dtype(tree: ast.AST) -> Iterator[str]:
    """Yield the name of every dict that gives dtypes numbers, or its line where it has no name."""
    owners = {
        id(node.value): target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict) and any(map(_is_dtype, node.keys)) and any(map(_is_number, node.values)):
            yield owners.get(id(node), f"line {node.lineno}")


def _is_dtype(key: ast.expr | None) -> bool:
    name = key.value if isinstance(key, ast.Constant) else key.attr if isinstance(key, ast.Attribute) else None
    return name in (*DTYPES, "float64")


def _is_number(value: ast.expr) -> bool:
    """Return whether a value is a number, or arithmetic on numbers."""
    if isinstance(value, ast.Constant):
        return isinstance(value.value, int | float)
    return isinstance(value, ast.BinOp | ast.UnaryOp)


def test_there_is_no_second_table_of_tolerances() -> None:
    found = {
        f"{file.relative_to(PACKAGE).as_posix()} {name}"
        for file in PACKAGE.rglob("*.py")
        if file.name != "tolerances.py"
        for name in tables_by_dtype(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert found == set(OTHER_TABLES)


FRACTIONS = {
    "laws/in_place.py 0.5": "the gain of the small model",
    "metrics/mistakes.py 0.5": "half the recovery: a factor with a name",
    "metrics/mistakes.py 0.01": "fractions for percent: a factor with a name",
    "metrics/mistakes.py 0.002": "how well a formula must meet wrong numbers to be named; nobody is found wrong by it",
    "metrics/mistakes.py 0.02": "a line of cells by chance is no pattern; nobody is found wrong by it",
    "laws/architectures/equality.py 0.001": "what a patch must change at least, so that there is something to compare",
}
"""Numbers below 1 where rows and recoveries are compared that are no tolerance."""


COMPARING = [file for folder in ("laws", "patching") for file in (PACKAGE / folder).rglob("*.py")]


def test_who_compares_names_the_reason_and_writes_no_number() -> None:
    found = {
        f"{file.relative_to(PACKAGE).as_posix()} {node.value}"
        for file in (*COMPARING, PACKAGE / "metrics" / "mistakes.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, float) and 0 < node.value < 1
    }
    assert found == set(FRACTIONS)


@pytest.mark.parametrize(
    "text",
    ['T = {"float32": 1e-5, "float16": 2e-3}', "T: Any = {mx.float32: 1e-5, mx.float16: 2.0**-9}",
     'within = {"float16": 2.0, "bfloat16": 10.0}.get(dtype, 0.05)'],
    ids=["names", "dtypes", "without a name"],
)  # fmt: skip
def test_a_second_table_is_seen(text: str) -> None:
    assert len(list(tables_by_dtype(ast.parse(text)))) == 1


def test_tables_of_other_things_are_no_tolerances() -> None:
    text = 'SHORT = {"float32": "", "float16": "-f16"}\nTYPES = {"float32": mx.float32}\nUNITS = {"l2": 0.5}'
    assert list(tables_by_dtype(ast.parse(text))) == []
