"""The weights, from wherever the weights are: files first, because a broken model may not load at all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.diagnosis.outcome.nouns import PlacedFinding, layer_of
from harness.diagnosis.subject import ModelUnderTest
from harness.diagnosis.weights.census import Census, Progress, scan
from harness.diagnosis.weights.faults import about_the_tensors, swallowed
from harness.diagnosis.weights.naming import place_of
from harness.diagnosis.weights.never_loaded import never_loaded, of_quantised
from harness.diagnosis.weights.originals import against_originals
from harness.diagnosis.weights.quantised import columns_of
from harness.diagnosis.weights.tensors import of_folder, of_module
from harness.models.loaded import LoadedModel
from harness.support.weight_files import BrokenFile
from harness.vocabulary.errors import UsageError
from harness.vocabulary.verdict import fails
from harness.vocabulary.words import number_of


@dataclass(frozen=True)
class Stored:
    """What was found in the weights, and the model, if it could be loaded."""

    findings: tuple[PlacedFinding, ...]
    summary: str
    loaded: LoadedModel | None


def examine(subject: ModelUnderTest, before: Any, progress: Progress | None) -> Stored:
    """Look at every tensor of a subject, and at those it was made from. Raises UsageError for a folder that is none."""
    found: list[PlacedFinding] = []
    files: list[Census] = []
    if subject.folder is not None:
        files, found = _folder(subject.folder, subject.dtype, progress)
        if any(map(fails, found)):
            _note_before(found, before, files, subject, progress)
            return Stored(tuple(found), _summary(files), None)
    try:
        model = subject.load()
    except UsageError as error:
        refusal = list(_refused(error))
        if not refusal:
            raise
        return Stored((*found, *refusal), _summary(files), None)
    censuses = files or list(scan(of_module(model.module), subject.dtype, progress))
    if not files:
        found = about_the_tensors(censuses, subject.dtype)
    in_memory = {each.tensor.name: each.tensor for each in censuses}
    new, untrained = never_loaded(censuses, of_quantised(in_memory, columns_of(model.module)))
    found += new
    _note_before(found, before, censuses, subject, progress)
    return Stored(tuple(found), "; ".join(filter(None, (_summary(censuses), untrained))), model)


def _folder(folder: Path, dtype: str | None, progress: Progress | None) -> tuple[list[Census], list[PlacedFinding]]:
    tensors, broken = of_folder(folder)
    found = [_of_file(error) for error in broken]
    try:
        censuses = list(scan(tensors, dtype, progress))
    except BrokenFile as error:
        return [], [*found, _of_file(error)]
    return censuses, [*found, *about_the_tensors(censuses, dtype)]


def _of_file(error: BrokenFile) -> PlacedFinding:
    code = "DIA106" if "is not there" in error.reason or "does not hold" in error.reason else "DIA107"
    name = error.tensor or error.file
    return PlacedFinding.of(code, f"{error.file}: {error.reason}", place_of(name), file=error.file)


def _note_before(
    found: list[PlacedFinding], before: Any, after: Sequence[Census], subject: ModelUnderTest, progress: Progress | None
) -> None:
    """Hold the weights that a model was made from against it: what quantising or a cast has hidden comes first."""
    if before is None:
        return
    folder = Path(before).expanduser()
    if not folder.is_dir():
        raise UsageError(f"before: {folder} is {'not a folder' if folder.exists() else 'not there'}")
    tensors, broken = of_folder(folder)
    if not tensors and not broken:
        raise UsageError(f"before: {folder} has no *.safetensors")
    dtypes = {each.tensor.dtype for each in after if each.tensor.dtype in ("float16", "bfloat16", "float32")}
    dtype = subject.dtype or ("float16" if dtypes == {"float16"} else None)
    originals = list(scan(tensors, dtype, progress))
    hidden = list(swallowed(originals, {each.tensor.name: each for each in after}))
    wide = [each for each in about_the_tensors(originals, dtype) if each.code in ("DIA104", "DIA108", "DIA101")]
    names = {each.place.module for each in hidden}
    first = [*hidden, *(each for each in wide if each.place.module not in names), *(_of_file(e) for e in broken)]
    if not first:
        mine, theirs = ({each.tensor.name: each.tensor for each in some} for some in (after, originals))
        first = against_originals(mine, theirs)
    found[:0] = first


def _refused(error: UsageError) -> Iterator[PlacedFinding]:
    """Read what mlx-lm says when a folder's tensors do not fit the model."""
    text = str(error.__cause__ or error)
    for sign, what in (("Missing", "never loaded"), ("Received", "not a parameter of the model")):
        if found := re.search(rf"{sign} \d+ parameters[^:]*:\s*(.*)", text, re.DOTALL):
            names = [name.strip(" .") for name in re.split(r"[,\n]+", found.group(1)) if name.strip(" .")]
            shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            yield PlacedFinding.of(
                "DIA106",
                f"{number_of(len(names), 'tensor')}: {shown}: {what}",
                place_of(names[0]),
                tensors=names[:64],
                layer=layer_of(names[0]),
            )
    if found := re.search(r"Expected shape (\(.*?\)) but received shape (\(.*?\)) for parameter (\S+)", text):
        wanted, got, name = found.groups()
        yield PlacedFinding.of(
            "DIA106", f"{name} has the shape {got}, the model wants {wanted}", place_of(name.rstrip("."))
        )


def _summary(found: Sequence[Census]) -> str:
    size = sum(each.tensor.nbytes for each in found)
    return f"{number_of(len(found), 'tensor')}, {size / 1e6:,.0f} MB"
