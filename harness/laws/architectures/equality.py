"""The equality matrix: how far the one-pass sweep is from the stepwise one, cell by cell, on every architecture.

A cell of the page is one component of one architecture in one dtype: the largest difference of logits over both
directions, every choice of positions and every layer, as a share of the largest logit. Where the walk falls back to
stepwise, or the model does not run in that dtype, the cell names the reason. Every component must also change something
somewhere, because rows that nothing has patched are equal too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np

from harness import intercept, patching
from harness.intercept import resolve
from harness.intercept.hookpoints import layers_with
from harness.laws.architectures.kind import FAIL
from harness.metrics import host_row
from harness.metrics.tolerances import Work, relative_difference, row_tolerance
from harness.models.architectures import heads_of
from harness.models.loaded import LoadedModel
from harness.models.sources import miniatures
from harness.models.sources.folder import cast
from harness.models.sources.miniatures import reasons
from harness.patching.patch import patches_of
from harness.vocabulary import PER_HEAD, Direction, Positions, Question, Site, Sweep, Tokens
from harness.vocabulary.errors import UsageError, described
from harness.vocabulary.words import number_of

ABSENT = "-"
DTYPES: Mapping[str, mx.Dtype] = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
COMPONENTS = ("resid_pre", "attn_out", "mlp_out", "resid_post", "self_attn", "mlp", "z")
POSITIONS: tuple[Positions, ...] = ("all", "last", (1, -2), "each")
CLEAN, CORRUPTED = (3, 7, 11, 200, 5, 9), (3, 7, 12, 200, 6, 9)
"""Two tokens of a common prefix: a sweep at each position runs them once where the model lets it."""

MATTERS = 1e-3
"""Share of the largest logit by which some cell of a component must differ from the unpatched run."""


def columns(*dtypes: str) -> list[str]:
    """Return the columns of these dtypes, of all without any."""
    return [f"{dtype} {component}" for dtype in dtypes or DTYPES for component in COMPONENTS]


def row_of(architecture: str, *dtypes: str) -> dict[str, str]:
    """Return `dtype component` -> the worst difference, a reason, or `FAIL: ` and what was seen."""
    by_dtype = {dtype: cells_of(architecture, dtype) for dtype in dtypes or DTYPES}
    return {f"{dtype} {component}": text for dtype, cells in by_dtype.items() for component, text in cells.items()}


def cells_of(architecture: str, dtype: str) -> dict[str, str]:
    """Return component -> cell in one dtype."""
    try:
        model = miniatures.load(architecture)
        cast(model.module, dtype)
        model = replace(model, card=replace(model.card, dtype=dtype))
        if np.isnan(host_row(intercept.forward(model, CORRUPTED))).any():
            return dict.fromkeys(COMPONENTS, f"{dtype}: logits are NaN before any patch")
        return _cells(model, dtype)
    except Exception as error:  # noqa: BLE001  whatever a foreign forward pass raises is the reason
        return dict.fromkeys(COMPONENTS, _not_run(architecture, dtype, error))


def _cells(model: LoadedModel, dtype: str) -> dict[str, str]:
    """Return component -> cell; components that are the same modules under two names are walked once."""
    cells: dict[str, str] = {}
    by_points: dict[tuple[Any, ...], str] = {}
    for component in COMPONENTS:
        layers = tuple(layers_with(model, component))
        if not layers or (component in PER_HEAD and not _heads_known(model)):
            cells[component] = ABSENT
            continue
        points = resolve(model, Sweep((component,), layers))
        key = tuple(point.place for point in points)
        if key not in by_points:
            by_points[key] = _cell(model, component, layers, dtype)
        cells[component] = by_points[key]
    return cells


def _cell(model: LoadedModel, component: str, layers: tuple[int, ...], dtype: str) -> str:
    worst, moved = 0.0, 0.0
    for direction in Direction:
        for positions in POSITIONS:
            sweep = Sweep((component,), layers, direction, positions, "one-pass")
            try:
                wanted = dict(_stepwise(model, sweep))
            except Exception as error:  # noqa: BLE001
                known = _known(model.card.architecture, "stepwise", error)
                return f"{'' if known else FAIL}cannot be patched stepwise: {_line(error)}"
            walked = patching.walk(model, _question(sweep))
            got = dict(walked.patched)
            if walked.fallback:
                return _stays_behind(model.card.architecture, walked.fallback)
            if got.keys() != wanted.keys():
                return (
                    f"{FAIL}{direction}, {positions}: {number_of(len(got), 'cell')} where {len(wanted)} were asked for"
                )
            unpatched = walked.corrupted if direction is Direction.DENOISING else walked.clean
            moved = max([moved, *(relative_difference(unpatched, row) for row in wanted.values())])
            worst = max([worst, *(_apart(wanted[site], got[site]) for site in wanted)])
    if not moved > MATTERS:
        return f"{FAIL}no cell differs from the unpatched run"
    return (
        f"{worst:.0e}"
        if worst <= row_tolerance(Work.OTHER_BATCH, dtype)
        else f"{FAIL}differs from stepwise by {worst:.1e}"
    )


def _not_run(architecture: str, dtype: str, error: Exception) -> str:
    if known := _known(architecture, "builds", error):
        return f"not run in {dtype}: {known}"
    kernel = dtype != "float32" and "only supports float32" in str(error)
    return f"{'' if kernel else FAIL}not run in {dtype}: {_line(error)}"


def _known(architecture: str, column: str, error: Exception) -> str:
    """Return the reason that is known for what a check of the matrix of architectures saw, or nothing."""
    known = reasons.REASONS.get(architecture, {}).get(column)
    return known.text if known and re.search(known.seen, described(error)) else ""


def _stays_behind(architecture: str, fallback: str) -> str:
    known = reasons.REASONS.get(architecture, {}).get("one-pass")
    return f"goes stepwise: {known.text}" if known else f"{FAIL}goes stepwise: {_line(fallback)}"


def _heads_known(model: LoadedModel) -> bool:
    try:
        heads_of(model.card.architecture)
    except UsageError:
        return False
    return True


def _stepwise(model: LoadedModel, sweep: Sweep) -> Iterator[tuple[Site, mx.array]]:
    """Yield one forward pass a cell, with nothing of the sweep's own code."""
    donor, host = (CLEAN, CORRUPTED) if sweep.direction is Direction.DENOISING else (CORRUPTED, CLEAN)
    points = resolve(model, sweep)
    _, source = intercept.record(model, donor, points)
    for patch in patches_of(points, sweep.positions, len(host)):
        yield patch.site, intercept.replace(model, host, [patch.point], source, patch.positions)


def _apart(one: mx.array, other: mx.array) -> float:
    return 0.0 if mx.array_equal(one, other) else relative_difference(one, other)


def _question(sweep: Sweep) -> Question:
    clean, corrupted = (Tokens(ids, tuple(map(str, ids))) for ids in (CLEAN, CORRUPTED))
    return Question(clean, corrupted, sweep, ("l2",))


def _line(error: object) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if isinstance(error, Exception) else text
