"""Exchanging classes: all or none, given back in reverse, refused under a sweep, and nowhere else in the package."""

from __future__ import annotations

import ast
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from toy_model import IDS, Gain, Toy, portrait

from harness.intercept import Tap, tapped
from harness.intercept.swap import exchanged, plant
from harness.vocabulary.errors import TapError

PACKAGE = Path(__file__).parents[2] / "harness"


def doubled(call, args, kwargs):
    return 2 * call(*args, **kwargs)


def untouched(call, args, kwargs):
    return call(*args, **kwargs)


class Witness(Gain):
    """Notes every class it is given under `name`, and raises at the number of the change in `refused`."""

    changes: list[str] = []  # noqa: RUF012  one list of all witnesses is what tells their order
    name, refused, changed = "", 0, 0

    def __setattr__(self, name, value):
        if name == "__class__":
            vars(self)["changed"] = self.changed + 1
            if self.changed == self.refused:
                raise TypeError(f"{self.name} refuses")
            self.changes.append(self.name)
        super().__setattr__(name, value)


def witnesses(toy: Toy, **refused: int) -> list[Witness]:
    Witness.changes.clear()
    for name, layer in zip("abc", toy.layers, strict=True):
        layer.mlp = Witness(1)
        vars(layer.mlp).update(name=name, refused=refused.get(name, 0))
    return [layer.mlp for layer in toy.layers]


def test_a_handler_stands_for_the_call_and_is_gone_afterwards(toy):
    plain, x = toy.layers[0].mlp, mx.ones((1, 2, 4))
    expected = 2 * plain(x)
    with exchanged(toy, [(plain, lambda call, args, kwargs: 2 * call(kwargs.pop("x"), *args, **kwargs))]):
        assert mx.array_equal(plain(x=x), expected)
        assert isinstance(plain, Gain)
    assert type(plain) is Gain


def test_classes_are_given_back_in_reverse_order(toy):
    with exchanged(toy, [(each, untouched) for each in witnesses(toy)]):
        assert Witness.changes == ["a", "b", "c"]
    assert Witness.changes == ["a", "b", "c", "c", "b", "a"]


def test_a_module_that_refuses_leaves_none_changed(toy):
    chosen = witnesses(toy, c=1)
    with pytest.raises(TypeError, match="c refuses"), exchanged(toy, [(each, untouched) for each in chosen]):
        pytest.fail("the block is not entered")
    assert [type(each) for each in chosen] == [Witness] * 3
    assert Witness.changes == ["a", "b", "b", "a"]


def test_a_module_that_refuses_its_class_keeps_no_other_from_getting_its_own_back(toy):
    chosen = witnesses(toy, b=2)
    with pytest.raises(TypeError, match="b refuses"), exchanged(toy, [(each, untouched) for each in chosen]):
        pass
    assert [type(each) is Witness for each in chosen] == [True, False, True]


def test_an_exception_in_the_block_comes_out_after_the_classes_are_back(toy):
    before = portrait(toy)
    with pytest.raises(RuntimeError, match="planted"), exchanged(toy, [(toy, doubled), (toy.layers[1], doubled)]):
        raise RuntimeError("planted")
    assert portrait(toy) == before


def test_exchanges_nest_and_each_gives_back_its_own(toy):
    mlp, x = toy.layers[0].mlp, mx.ones((1, 2, 4))
    plain = mlp(x)
    with exchanged(toy, [(mlp, doubled), (mlp, doubled)]):
        outer = type(mlp)
        assert mx.array_equal(mlp(x), 4 * plain)
        with exchanged(toy, [(mlp, doubled)]):
            assert mx.array_equal(mlp(x), 8 * plain)
        assert type(mlp) is outer
    assert type(mlp) is Gain


class Left(Gain):
    """A class that somebody's engine leaves on a module."""


@pytest.mark.parametrize(("watching", "afterwards"), [(True, Left), (False, Gain)], ids=["watching", "our own work"])
def test_a_class_left_on_top_stays_where_an_engine_is_watched(toy, watching, afterwards):
    mlps = [layer.mlp for layer in toy.layers]
    with exchanged(toy, [(mlp, untouched) for mlp in mlps], watching=watching):
        mlps[1].__class__ = Left
    assert [type(mlp) for mlp in mlps] == [Gain, afterwards, Gain]


@pytest.mark.parametrize(
    "change",
    [
        lambda toy: exchanged(toy, [(toy.layers[0], untouched)]).__enter__(),
        lambda toy: plant(toy, untouched),
        lambda toy: plant(toy.layers[2], untouched),
    ],
    ids=["exchanged", "planted", "planted in a part"],
)
def test_a_model_that_a_sweep_holds_is_refused(toy, change):
    with tapped(toy, [Tap(toy.layers[2].mlp, untouched)]):
        classes = [type(module) for _, module in toy.named_modules()]
        with pytest.raises(TapError, match=r"mlp is tapped already; a model serves one sweep at a time"):
            change(toy)
        assert [type(module) for _, module in toy.named_modules()] == classes


def test_a_model_that_a_sweep_holds_can_be_watched(toy):
    before, seen = portrait(toy), []
    with (
        tapped(toy, [Tap(toy.layers[0], untouched)]),
        exchanged(toy, [(toy, lambda call, args, kwargs: seen.append(args) or call(*args, **kwargs))], watching=True),
    ):
        toy(mx.array([IDS]))
    assert len(seen) == 1
    assert portrait(toy) == before


@pytest.mark.parametrize("watching", [True, False], ids=["watching", "our own work"])
def test_a_model_whose_classes_are_exchanged_can_be_swept(toy, watching):
    tap = Tap(toy.layers[0], untouched)
    with exchanged(toy, [(toy.layers[0], untouched)], watching=watching), tapped(toy, [tap]):
        toy(mx.array([IDS]))
    assert tap.fired == 1


def test_what_is_planted_stays(toy):
    x = mx.ones((1, 2, 4))
    expected = 2 * toy.layers[0].mlp(x)
    plant(toy.layers[0].mlp, doubled)
    assert mx.array_equal(toy.layers[0].mlp(x), expected)
    assert isinstance(toy.layers[0].mlp, nn.Module)


def assignments(folder: Path) -> list[str]:
    """Return the files that assign to `__class__`, once for every assignment."""
    found = []
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            stored = isinstance(node, ast.Attribute) and node.attr == "__class__" and isinstance(node.ctx, ast.Store)
            if stored or (isinstance(node, ast.Call) and _sets_class(node)):
                found.append(file.relative_to(folder).as_posix())
    return found


def _sets_class(call: ast.Call) -> bool:
    name = getattr(call.func, "id", getattr(call.func, "attr", None))
    named = any(isinstance(each, ast.Constant) and each.value == "__class__" for each in call.args)
    return name in ("setattr", "__setattr__") and named


def test_the_package_assigns_to_a_class_in_one_place():
    # The other gives a class to a Python module, mlx_lm, and to no module of a model.
    assert set(assignments(PACKAGE)) == {"intercept/swap.py", "models/sources/installed.py"}


@pytest.mark.parametrize(
    "line",
    [
        "module.__class__ = kind",
        "module.__class__: type = kind",
        "module.__class__ += kind",
        "name, module.__class__ = name, kind",
        "for module.__class__ in kinds: pass",
        "setattr(module, '__class__', kind)",
        "object.__setattr__(module, '__class__', kind)",
        "module.__setattr__('__class__', kind)",
    ],
)
def test_a_second_place_is_seen(tmp_path, line):
    (tmp_path / "intercept").mkdir()
    (tmp_path / "intercept" / "swap.py").write_text("module.__class__ = kind\nkept = module.__class__\n")
    (tmp_path / "other.py").write_text(f"{line}\n")
    assert assignments(tmp_path) == ["intercept/swap.py", "other.py"]
