"""The plan of a walk: which rows there are at which moment, known before it and never changed."""

from __future__ import annotations

import dataclasses

import pytest
from plain_transformer import CORRUPTED, LAYERS, loaded

from harness.intercept import resolve
from harness.patching.layout import Prefix, layout_of
from harness.patching.patch import patches_of
from harness.patching.rows import FIRST, plan_walk
from harness.vocabulary import Sweep


def plan_of(plain, *components: str):
    model = loaded(plain)
    points = resolve(model, Sweep(components))
    layout = layout_of(model, plain.layers, CORRUPTED, points, Prefix())
    return plan_walk(model, plain.layers, patches_of(points, "all", 4), 4, layout)


def parts(plain, block) -> dict[str, int]:
    """Return the rows of the parts of a block that are tapped."""
    names = {id(module): name for name, module in plain.named_modules()}
    return {names[id(part.module)].rpartition(".")[2]: part.rows for part in block.parts}


@pytest.mark.parametrize(
    ("component", "inside", "attention", "mlp"),
    [
        # rows above those that come in: in the block's batch, and those its parts need
        ("resid_pre", 1, None, None),
        ("self_attn", 1, 0, None),
        ("mlp", 1, 0, 0),
        ("resid_post", 0, 0, 0),
    ],
)
def test_a_row_begins_at_its_block_and_a_part_that_ends_before_its_moment_goes_without(
    plain, component, inside, attention, mlp
):
    plan = plan_of(plain, component)
    assert list(plan.rows.values()) == [FIRST + layer for layer in range(LAYERS)]
    for layer, block in enumerate(plan.blocks[:-1]):
        before = FIRST + layer
        assert (block.before, block.rows, block.after) == (before, before + inside, before + 1)
        wanted = {"self_attn": attention, "mlp": mlp}
        assert parts(plain, block) == {name: before + more for name, more in wanted.items() if more is not None}
    assert plan.blocks[-1].last_token is plain.layers[-1].mlp


def test_rows_of_several_components_are_numbered_by_layer_and_moment(plain):
    plan = plan_of(plain, "mlp", "resid_pre", "self_attn")
    order = [(patch.point.layer, patch.point.component) for patch in sorted(plan.rows, key=plan.rows.get)]
    assert order == [(layer, name) for layer in range(LAYERS) for name in ("resid_pre", "self_attn", "mlp")]
    first = plan.blocks[0]
    assert (first.before, first.rows, first.after) == (2, 5, 5)
    assert parts(plain, first) == {"self_attn": 3, "mlp": 4}


def test_a_plan_cannot_be_changed(plain):
    plan = plan_of(plain, "mlp")
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.blocks[0].rows = 9
