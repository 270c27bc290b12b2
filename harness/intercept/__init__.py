"""Interception: taps on modules, hook points that name them, and forward passes that record or replace activations."""

from harness.intercept.capture import (
    Recording,
    forward,
    put_back,
    record,
    replace,
    replace_each,
    resolve_positions,
    slice_of,
)
from harness.intercept.hookpoints import HookPoint, resolve, resolve_layers
from harness.intercept.swap import CALL
from harness.intercept.taps import Tap, output_changed, tapped

__all__ = [
    "CALL",
    "HookPoint",
    "Recording",
    "Tap",
    "forward",
    "output_changed",
    "put_back",
    "record",
    "replace",
    "replace_each",
    "resolve",
    "resolve_layers",
    "resolve_positions",
    "slice_of",
    "tapped",
]
