"""Float32 products of shorter factors, as a TF32 unit makes them: a GPU's default, on any machine."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import pytest

PLAIN = {"matmul": mx.matmul, "addmm": mx.addmm}
_AT = mx.array.__matmul__


def rounded(value: mx.array, bits: int = 11) -> mx.array:
    """A float32 with a significand of so many bits, the leading one counted; other dtypes are left alone."""
    if value.dtype != mx.float32:
        return value
    dropped = 24 - bits
    word = value.view(mx.uint32) + (1 << (dropped - 1))
    return (word & (0xFFFFFFFF - (1 << dropped) + 1)).view(mx.float32)


def shortened(
    which: str, bits: int = 11, when: Callable[[mx.array, mx.array], bool] = lambda left, right: True
) -> Callable[..., mx.array]:
    """`mx.matmul` or `mx.addmm` of shorter factors, where the shapes call for it."""

    def product(*given: mx.array) -> mx.array:
        *first, left, right = given
        if when(left, right):
            left, right = rounded(left, bits), rounded(right, bits)
        return PLAIN[which](*first, left, right)

    return product


def _noisy(out: mx.array) -> mx.array:
    if out.dtype != mx.float32:
        return out
    return out * (1 + 2.0**-12 * mx.random.uniform(-1, 1, out.shape, key=mx.random.key(out.size)))


def blur_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every product of a model wrong by about 2^-13 of itself, which is the least that TF32 does."""
    for which, plain in PLAIN.items():
        monkeypatch.setattr(mx, which, lambda *given, plain=plain: _noisy(plain(*given)))
    monkeypatch.setattr(mx.array, "__matmul__", lambda a, b: _noisy(_AT(a, b)))


def shorten_all(monkeypatch: pytest.MonkeyPatch, bits: int = 11) -> None:
    """Make every product of a model one of shorter factors."""
    for which in PLAIN:
        monkeypatch.setattr(mx, which, shortened(which, bits))
    monkeypatch.setattr(mx.array, "__matmul__", lambda a, b: _AT(rounded(a, bits), rounded(b, bits)))
