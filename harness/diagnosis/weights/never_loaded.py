"""Tensors that are as MLX starts them, in a model whose others are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from harness.diagnosis.outcome.nouns import SUSPECTED, PlacedFinding
from harness.diagnosis.weights.census import Census
from harness.diagnosis.weights.initialised import LEAST, QUANTISED, SAMPLE, is_judged, start_of
from harness.diagnosis.weights.naming import listed, place_of, role_of
from harness.diagnosis.weights.quantised import QuantisedMatrix
from harness.diagnosis.weights.tensors import Tensor
from harness.metrics.layouts import layout_named
from harness.vocabulary.words import number_of


def of_quantised(tensors: Mapping[str, Tensor], columns: Mapping[str, int]) -> dict[str, str]:
    """Return what quantised matrices still are as MLX starts them, by name; `columns` says how wide they are."""
    found = {}
    for name in (name for name in tensors if name in columns):
        matrix = QuantisedMatrix.named(name, tensors, columns[name])
        if matrix is not None and is_judged(name, matrix.shape):
            values = next(matrix.pieces())[1].reshape(-1)
            values = values[np.isfinite(values)][:SAMPLE]
            if values.size >= LEAST:
                found[name] = start_of(name, matrix.shape, values, float(np.abs(values).max()), QUANTISED)
    return found


def never_loaded(found: Sequence[Census], quantised: Mapping[str, str]) -> tuple[list[PlacedFinding], str]:
    """Return the tensors that are as MLX starts them in a model whose others are not; and what to say of a model in
    which all of them are.

    A norm is judged beside the others of its role: some models have ones for good.
    """
    starts = {each.tensor.name: each.start for each in found if is_judged(each.tensor.name, each.tensor.shape)
              and layout_named(each.tensor.dtype)} | dict(quantised)  # fmt: skip
    vectors = {each.tensor.name for each in found if len(each.tensor.shape) == 1}
    matrices = [name for name in starts if name not in vectors]
    fresh = [name for name in matrices if starts[name]]
    if matrices and len(fresh) == len(matrices):
        return [], f"untrained: all {number_of(len(matrices), 'matrix', 'matrices')} are as MLX starts them"
    fresh += [name for name in starts if name in vectors and starts[name] and _is_rare(name, starts, vectors)]
    if not fresh:
        return [], ""
    rest = len(starts) - len(fresh)
    kinds = ", ".join(f"{_by_role(names)} {start}" for start, names in _grouped(fresh, starts))
    message = f"{kinds}: as MLX starts a layer, and {rest} other tensors are not"
    place = place_of(fresh[0])
    return [PlacedFinding.of("DIA109", message, place, SUSPECTED, tensors=fresh, count=len(fresh), others=rest)], ""


def _is_rare(name: str, starts: Mapping[str, str], vectors: set[str]) -> bool:
    """Whether at most half of the norms of a role are ones; of a norm without siblings, at most half of all norms."""
    same = [other for other in starts if other in vectors and role_of(other) == role_of(name)]
    of = same if len(same) > 1 else [other for other in starts if other in vectors]
    return len(of) > 1 and 2 * sum(bool(starts[other]) for other in of) <= len(of)


def _grouped(names: Sequence[str], starts: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    for start in dict.fromkeys(starts[name] for name in names):
        yield start, [name for name in names if starts[name] == start]


def _by_role(names: Sequence[str]) -> str:
    """Return names, the layers of one role together."""
    roles: dict[str, list[str]] = {}
    for name in names:
        roles.setdefault(role_of(name), []).append(name)
    return listed(
        [some[0] if len(some) == 1 else f"{role} in {number_of(len(some), 'layer')}" for role, some in roles.items()]
    )
