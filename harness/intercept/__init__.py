"""Interception: taps on modules, hook points that name them, and forward passes that record or replace activations."""

from harness.intercept.capture import (
    Recording,
    edited,
    forward,
    put_back,
    record,
    replace,
    resolve_positions,
    run_together,
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
    "edited",
    "forward",
    "output_changed",
    "put_back",
    "record",
    "replace",
    "resolve",
    "resolve_layers",
    "resolve_positions",
    "run_together",
    "slice_of",
    "tapped",
]
