"""Each defect known of the patching libraries that people have is caught, by a law, on the smallest model it shows on.

The libraries themselves are not needed: a stand-in has the one defect, and the same without it passes.
"""

from __future__ import annotations

import importlib

import defects
import library
import pytest
import wide

from harness.engines.function import function_engine
from harness.laws import LAWS
from harness.laws.conformance.matrix import PASS, SKIP, row_cells
from harness.laws.conformance.rows import architecture, known

KNOWN = {
    "float16 logits are subtracted first": ("defects:narrow_subtraction", "dial-extreme-f16", "answers"),
    "float32 squares overflow, and so does their mean": ("library:narrow_squares", "dial-huge-f32", "scale"),
    "1 - cos cancels": ("library:one_minus_cosine", "dial-mean10-f32", "closed-form"),
    "-inf of ruled out ids becomes nan": ("library:nan_of_suppressed", "dial-suppressed-f16", "answers"),
    "nan becomes 0 %": ("defects:guarded_zero", "dial-nan-f16", "undefined"),
    "equal prompts recover 0 %": ("defects:guarded_zero", "llama", "undefined"),
    "a small baseline is taken for none": ("library:absolute_guard", "dial-tiny-f32", "closed-form"),
    "probabilities are clipped": ("library:clipped", "dial-huge-f32", "declared"),
    "a negative gap is taken for none": ("library:positive_gap", "llama", "exchanged"),
    "a divergence is called a recovery": ("library:negative_divergence", "llama", "declared"),
    "prompts of unequal length are aligned": ("defects:end_aligned", "llama", "lengths"),
    "experts have another name": ("library:own_names_only", "mixtral", "answers"),
    "experts get 0 %": ("library:zero_where_absent", "mixtral", "taps"),
    "names that do not exist get 0 %": ("library:zero_where_absent", "llama", "names"),
    "blocks have another place": ("library:usual_place_only", "mamba2", "answers"),
    "a module is called by other names of arguments": ("library:positional_only", "gemma3n", "answers"),
    "isinstance sees a wrapper": ("library:wrapping", "olmo_hybrid", "traced"),
    "in sees a wrapper": ("library:wrapping_model", "recurrent_gemma", "traced"),
    "Ctrl-C leaves the wrappers": ("library:wrapped_on_interrupt", "llama", "after-ctrl-c"),
    "parameters change their order": ("library:reordering", "llama", "after"),
    "recordings are kept by reference": ("defects:aliasing", "llama", "in-place"),
    "a looped model is patched with its last call": ("library:last_call", "iquestloopcoder", "declared"),
    "a patch of the residual stream never fires": ("library:residual_never_patched", "llama", "residual"),
    "heads are cut after they were mixed": ("library:heads_of_the_output", "llama", "declared"),
    "heads ignore positions": ("library:heads_everywhere", "llama", "declared"),
    "positions from the end are left out": ("library:from_the_end_ignored", "llama", "declared"),
}
"""Defect -> its stand-in, the model it shows on, and the law that catches it."""


def cells(engine, row, law):
    model = known(row) if row.startswith("dial") else architecture(row)
    return [cell for cell in row_cells(engine, model, [LAWS[law]]) if cell.law == law]


def engine_of(name):
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def right(name):
    """Return the right engine with the declaration of another, and modules by their paths where it patches those."""
    engine = engine_of(name)
    kind = next(kind for kind in (wide.Wide, library.Divergence, defects.Engine) if isinstance(engine, kind))
    names = engine.harness["components"] if kind is wide.Wide else ["resid_post", "paths"]
    return type("Right", (kind,), {"harness": {**engine.harness, "components": names}})()


@pytest.mark.parametrize("defect", KNOWN)
def test_it_is_caught(defect):
    name, row, law = KNOWN[defect]
    found = cells(function_engine(engine_of(name)), row, law)
    assert {cell.status for cell in found} - {PASS, SKIP}, found


@pytest.mark.slow
@pytest.mark.parametrize("defect", KNOWN)
def test_the_same_without_it_is_not(defect):
    name, row, law = KNOWN[defect]
    found = cells(function_engine(right(name)), row, law)
    assert {cell.status for cell in found} == {PASS}, found
