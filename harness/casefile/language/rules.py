"""The rules between the fields of a case: nothing is said of what the case does not run.

Each rule yields a `Refusal` for everything that breaks it, so that all of them are reported at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.casefile.language.expected import Exemption, OfJobs, exemptions
from harness.casefile.language.fields import Refusal
from harness.casefile.language.names import is_pattern
from harness.casefile.language.schema import CaseFile
from harness.casefile.syntax.document import KeyPath, shown, with_article
from harness.vocabulary import PER_HEAD
from harness.vocabulary.errors import suggest

_LISTS = ("baselines", "recoveries", "finite", "baseline_range", "top_layers", "minimum_recovery", "rank_order")


def beside_the_point(case: CaseFile) -> list[Refusal]:
    """Return everything that a case says of something it does not run.

    In one variant of a case that is no fault, as long as another variant runs it.
    """
    return [*_foreign(case), *_cells(case), *_layers(case), *_foreign_engines(case)]


def narrowed(case: CaseFile, refusals: Iterable[Refusal]) -> CaseFile:
    """Return the case without the entries of `expect` that are refused: they speak of other variants."""
    dropped = {refusal.path[:3] for refusal in refusals}
    kept = {
        key: tuple(entry for index, entry in enumerate(entries) if ("expect", key, index) not in dropped)
        for key in _LISTS
        if isinstance(entries := getattr(case.expect, key), tuple)
    }
    return case.model_copy(update={"expect": case.expect.model_copy(update=kept)})


def _entries(case: CaseFile) -> Iterator[tuple[KeyPath, OfJobs]]:
    """Yield every entry that may be narrowed to an engine, a model, a component or a metric, and its key path."""
    for key in _LISTS:
        entries = getattr(case.expect, key)
        # `finite` may be one word for everything.
        for index, entry in enumerate(entries if isinstance(entries, tuple) else ()):
            yield ("expect", key, index), entry
    for key, written in (("skip", case.skip), ("xfail", case.xfail)):
        for index, exempt in enumerate(exemptions(written, Exemption)):
            yield (key, index) if isinstance(written, tuple) else (key,), exempt


def _foreign(case: CaseFile) -> Iterator[Refusal]:
    """Yield what entries ask of metrics, components, engines and models that the case does not run."""
    for path, entry in _entries(case):
        for field, message in _foreign_names(case, entry):
            yield Refusal((*path, field), message)


def _cells(case: CaseFile) -> Iterator[Refusal]:
    """Yield known recoveries that name no cell of this sweep, or more than one."""
    for index, recovery in enumerate(case.expect.recoveries):
        if (recovery.position is None) is (case.sweep.positions == "each"):
            wants = "needs" if recovery.position is None else "has no use for"
            message = f"a recovery of this sweep {wants} a position; only 'positions: each' gives one to every cell"
            yield Refusal(("expect", "recoveries", index), message)
        if (recovery.head is None) is (recovery.component in PER_HEAD):
            wants = "needs a head" if recovery.head is None else f"has no heads; only {', '.join(PER_HEAD)} have"
            yield Refusal(("expect", "recoveries", index, "component"), f"{recovery.component!r} {wants}")


def _layers(case: CaseFile) -> Iterator[Refusal]:
    """Yield layers that are spoken of and not swept."""
    for path, layer in _named_layers(case):
        if not _swept(layer, case.sweep.layers):
            yield Refusal(path, f"layer {layer} is not in this case's sweep.layers")


def _named_layers(case: CaseFile) -> Iterator[tuple[KeyPath, int]]:
    for path, entry in _entries(case):
        layer = getattr(entry, "layer", None)
        if layer is not None:
            yield (*path, "layer"), layer
        yield from (((*path, "layers", index), each) for index, each in enumerate(getattr(entry, "layers", ())))


def _foreign_names(case: CaseFile, entry: OfJobs) -> Iterator[tuple[str, str]]:
    own = {
        "metric": case.metrics,
        "component": case.sweep.components,
        "engine": case.engines,
        "model": case.models,
    }
    for field, names in own.items():
        name = getattr(entry, field, None)
        # What a pattern means only the tables of models know; `names.unknown_names` asks them.
        patterns = field == "model" and any(map(is_pattern, (*names, name or "")))
        if name is not None and name not in names and not patterns:
            yield field, f"{shown(name)} is not {with_article(field)} of this case; {suggest(name, names)}"


def _swept(layer: int, layers: str | tuple[int, ...]) -> bool:
    """Return whether a sweep can hold a layer; only the model knows whether -1 and 23 are the same one."""
    return isinstance(layers, str) or layer in layers or any((other < 0) != (layer < 0) for other in layers)


def _foreign_engines(case: CaseFile) -> Iterator[Refusal]:
    for engine in case.expect.engines:
        if engine not in case.engines:
            message = f"{shown(engine)} is not an engine of this case; {suggest(engine, case.engines)}"
            yield Refusal(("expect", "engines", engine), message, at_key=True)
