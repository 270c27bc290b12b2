"""`matrix`: which cases a file makes, what they are called, and what it may not vary."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.casefile import Case, load_case, load_cases
from harness.casefile.compose import variants
from harness.vocabulary import Direction
from harness.vocabulary.errors import UsageError

Problems = Callable[..., list[str]]


def cases(folder: Path, text: str, name: str = "x") -> list[Case]:
    path = folder / f"{name}.case.yaml"
    path.write_text(text)
    return load_cases(path)


def test_a_case_for_every_combination_with_its_values_in_its_id(tmp_path: Path, minimal: str) -> None:
    made = cases(
        tmp_path, f"{minimal}matrix:\n  components: [mlp_out, mlp.gate_proj]\n  direction: [noising, denoising]\n"
    )
    assert [case.id for case in made] == [
        "x.mlp_out.noising", "x.mlp_out.denoising", "x.mlp.gate_proj.noising", "x.mlp.gate_proj.denoising",
    ]  # fmt: skip
    assert [case.variant for case in made] == [case.id.removeprefix("x.") for case in made]
    assert [case.sweep.components for case in made[1:3]] == [("mlp_out",), ("mlp.gate_proj",)]
    assert [case.sweep.direction for case in made[:2]] == [Direction.NOISING, Direction.DENOISING]


def test_a_named_variant_changes_any_key_and_the_rest_stays(tmp_path: Path, minimal: str) -> None:
    made = cases(tmp_path, f"""{minimal}tolerance: {{recovery_points: 1, oracle_points: 2}}
matrix:
  pair:
    one: {{}}
    two: {{prompts: {{corrupted: c}}, tolerance: {{recovery_points: 9}}, models: [other], expect: {{finite: true}}}}
""")  # fmt: skip
    one, two = made
    assert (one.prompts.corrupted, two.prompts.corrupted, two.prompts.clean) == ("a c", "c", "a b")
    assert (two.tolerance.recovery_points, two.tolerance.oracle_points, two.models) == (9, 2, ("other",))
    assert (one.expect.finite, two.expect.finite) == (False, True)


def test_numbers_are_named_after_their_field(tmp_path: Path, minimal: str) -> None:
    made = cases(tmp_path, f"{minimal}matrix: {{layers: [0, -1, all], positions: [3, each]}}\n")
    assert [case.variant for case in made][:3] == ["layer0.position3", "layer0.each", "layer-1.position3"]
    assert [case.asked_sweep.layers for case in made][::2] == [(0,), (-1,), None]
    assert [case.sweep.positions for case in made][:2] == [(3,), "each"]


def test_a_file_of_several_cases_is_not_one(tmp_path: Path, minimal: str) -> None:
    (tmp_path / "x.case.yaml").write_text(f"{minimal}matrix: {{direction: [noising, denoising]}}\n")
    with pytest.raises(UsageError, match="its matrix makes 2 cases; one is needed here"):
        load_case(tmp_path / "x.case.yaml")


def test_an_expectation_of_another_variant_is_left_out_and_one_of_none_is_refused(
    tmp_path: Path, problems: Problems, minimal: str
) -> None:
    text = f"""{minimal}matrix: {{components: [mlp_out, attn_out]}}
expect:
  recoveries: [{{component: attn_out, layer: 0, metric: l2, value: 1, within: 1}}]
  rank_order: [{{component: %s, layers: [0, 1]}}]
"""
    mlp, attention = cases(tmp_path, text % "mlp_out")
    assert (mlp.expect.recoveries, len(attention.expect.recoveries)) == ((), 1)
    assert (len(mlp.expect.rank_order), attention.expect.rank_order) == (1, ())
    (message,) = problems(text % "resid_pre", load_cases)
    assert message.startswith("x.case.yaml:8:28: expect.rank_order[0].component: 'resid_pre' is not a component of")


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ("5", "5:9: matrix: expected a mapping, found the number 5"),
        ("{}", "5:9: matrix: at least one entry is needed"),
        ("{components: 5}", "5:22: matrix.components: expected a list of values, or a mapping from names to what they "
         "change, found the number 5"),
        ("{components: []}", "5:22: matrix.components: at least one entry is needed"),
        ("{componets: [a]}", "5:10: matrix.componets: a list varies one of the fields components, direction, layers, "
         "metrics, positions, strategy, value; did you mean 'components'?"),
        ("{pair: [a]}", "5:10: matrix.pair: a list varies one of the fields components, direction, layers, metrics, "
         "positions, strategy, value; give each variant a name and what it changes"),
        ("{components: [mlp, MLP]}", "5:28: matrix.components[1]: gives the same name as an earlier value, 'mlp'"),
        ("{components: ['-']}", "5:23: matrix.components[0]: gives no name for a variant (lower-case letters, digits, "
         "'.', '_' and '-', at most 80, the first a letter or digit); name the variants"),
        ("{layers: [1.5]}", "5:19: matrix.layers[0]: expected a whole number, found the number 1.5"),
        ("{direction: [up]}", "5:22: matrix.direction[0]: 'up' is not a direction; known: denoising, noising"),
        ("{pair: {One: {}}}", "5:17: matrix.pair.One: as a key here, expected lower-case letters, digits, '.', '_' and "
         "'-', at most 80, the first a letter or digit, found 'One'"),
        ("{pair: {one: {id: a}}}", "5:23: matrix.pair.one.id: cannot vary; it is made of the case's own id and the "
         "names of the variants"),
        ("{pair: {one: {metrics: [l3]}}}", "5:33: matrix.pair.one.metrics[0]: 'l3' is not a metric; known: cosine, "
         "kl_divergence, l2, log_prob, logit_diff, mse"),
        ("{pair: {one: {metrisc: [l2]}}}", "5:23: matrix.pair.one.metrisc: is not a field here; did you mean "
         "'metrics'?"),
        (f"{{layers: {[*range(11)]}, positions: {[*range(11)]}}}", "5:9: matrix: makes 121 cases; at most 100 are "
         "allowed"),
        (f"{{pair: {{{'a' * 79}: {{}}}}}}", "5:1: matrix: makes the id "
         f"'x.{'a' * 57}…' of 81 characters; at most 80 are allowed"),
    ],
)  # fmt: skip
def test_every_message(problems: Problems, minimal: str, matrix: str, message: str) -> None:
    assert f"x.case.yaml:{message}" in problems(f"{minimal}matrix: {matrix}\n", load_cases)


def test_a_fault_of_the_case_is_named_once_for_all_variants(problems: Problems, minimal: str) -> None:
    text = f"{minimal}metrics: [l3]\nmatrix: {{direction: [noising, denoising]}}\n"
    assert len(problems(text, load_cases)) == 1


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (
            "".join(f"  a{n}: {{v: {{about: x}}}}\n" for n in range(5000)),
            "matrix: has 5,000 axes; at most 39 are allowed",
        ),
        (f"  layers: [{', '.join(map(str, range(20_000)))}]\n", "matrix: makes 20,000 cases; at most 100 are allowed"),
        (
            "".join(f"  a{n}: {{v: {{}}, w: {{}}}}\n" for n in range(39)),
            "matrix: makes 549,755,813,888 cases; at most 100 are allowed",
        ),
        (
            "".join(f"  a{n}: {{{', '.join(f'v{k}: {{}}' for k in range(20))}}}\n" for n in range(39)),
            "matrix: makes over a million million cases; at most 100 are allowed",
        ),
    ],
    ids=["axes", "values", "product", "unreadable product"],
)
def test_a_flood_of_variants_is_refused_before_any_is_made(
    problems: Problems, minimal: str, matrix: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "_combined", None)
    (found,) = problems(f"{minimal}matrix:\n{matrix}")
    assert found.endswith(message)
    assert "x.case.yaml:6:3: " in found


def test_variants_share_what_they_do_not_change(tmp_path: Path) -> None:
    """A hundred variants of one large case take little more room than one: its text, its data and their places."""
    tokens = ", ".join(map(str, range(1000, 4000)))
    text = f"models: [m]\nprompts: {{clean: [{tokens}], corrupted: [{tokens}]}}\n"

    def peak(matrix: str) -> int:
        tracemalloc.start()
        try:
            made = cases(tmp_path, text + matrix)
            assert all(case.line_of("prompts", "clean", 2999) == 2 for case in made)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    axis = ", ".join(f"v{n}: {{about: x}}" for n in range(10))
    assert peak(f"matrix:\n  p: {{{axis}}}\n  q: {{{axis}}}\n") < 6 * peak("")


def test_the_matrix_is_validated_once(tmp_path: Path, minimal: str) -> None:
    """It is no part of its variants, which would otherwise be as large as all of them together."""
    made = cases(tmp_path, f"{minimal}matrix: {{direction: [noising, denoising]}}\n")
    assert [case.matrix for case in made] == [None, None]
    assert [case.line_of("matrix", "direction", 1) for case in made] == [5, 5]
