"""What a module returns: an activation, or a tuple that carries the activation first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from harness.intercept.swap import Handler


def activation_of(out: Any) -> Any:
    """Return the activation in a module's output, or the logits in a model's."""
    return out[0] if isinstance(out, tuple) else out


def with_activation(out: Any, edit: Callable[[mx.array], mx.array]) -> Any:
    """Return the output with its activation edited and the rest of a tuple as it is."""
    return (edit(out[0]), *out[1:]) if isinstance(out, tuple) else edit(out)


def editing(edit: Callable[[mx.array], mx.array]) -> Handler:
    """Return a handler that edits the activation which a module returns."""
    return lambda call, args, kwargs: with_activation(call(*args, **kwargs), edit)
