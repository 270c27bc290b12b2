"""Tables out of files: a small YAML file with numbers as they were printed, a pasted text, or the result of a run.

In YAML the text of a number counts: 0.6480 is known to 0.00005 and 0.648 to 0.0005. In a result nothing was rounded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator

from harness.casefile import load_yaml_as
from harness.casefile.language.fields import NameOf, Refusal, refuse
from harness.casefile.syntax.document import described, shown
from harness.results.replay.numbers import Interval, Number, StatedPart, state_of
from harness.results.replay.pasted import read_pasted
from harness.results.replay.table import Column, RecoveryTable
from harness.support.inputs import read_input
from harness.vocabulary import COMPONENTS, METRICS, Cell, Curve, Direction, JobResult, Reading, State
from harness.vocabulary.errors import UsageError, suggest

SUFFIX = ".replay.yaml"
MOST_PASTED = 1 << 20
"""Bytes of a pasted text: some 20,000 lines."""
ERROR = 1e-6
"""What float32 may be off by in a distance, ten roundings of it; sums over a large vocabulary can be worse."""

_WORDS = tuple(state.value for state in State if state is not State.FINITE)


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        raise refuse([Refusal((), f"expected a number, found {described(value)}")])
    if state_of(value) is None:
        raise refuse([Refusal((), f"{shown(value)} is not a number, nor a state; {suggest(value, _WORDS)}")])
    return value


Printed = Annotated[str, BeforeValidator(_number)]
# The numbers of such a file arrive as the text that is written, also those whose digits do not matter.
Whole = Annotated[int, Field(ge=1, strict=False)]
Share = Annotated[float, Field(ge=0, lt=1, strict=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Numbers(_Part):
    """What one metric says: its baseline, and recoveries in percent by layer."""

    baseline: Printed
    recoveries: dict[Annotated[int, Field(ge=0)], Printed] = Field(default_factory=dict)


class ReplayFile(_Part):
    """The content of a replay file."""

    about: str = ""
    vocab: Whole | None = None
    error: Share = ERROR
    component: Annotated[str, NameOf("a component", tuple(COMPONENTS))] | None = None
    direction: Annotated[str, NameOf("a direction", tuple(Direction))] = Direction.DENOISING.value
    layers: Whole | None = None
    metrics: dict[Annotated[str, NameOf("a metric", tuple(METRICS))], Numbers] = Field(min_length=1)

    @model_validator(mode="after")
    def _layers_exist(self) -> Self:
        beyond = [
            Refusal(("metrics", metric, "recoveries", layer), f"there are {self.layers} layers, from 0", at_key=True)
            for metric, numbers in self.metrics.items()
            for layer in numbers.recoveries
            if self.layers and layer >= self.layers
        ]
        if beyond:
            raise refuse(beyond)
        return self


_ADAPTER = TypeAdapter(ReplayFile)


def read_tables(path: Path, error: float | None = None, metric: str = "l2") -> tuple[RecoveryTable, ...]:
    """Return the tables of a file: one of a YAML file, one for each component of a pasted text or of a result's jobs.

    `-` is a text on standard input. `error` is the part of a distance that its arithmetic may be off by, instead of
    what the file says or `ERROR`; `metric` is that of a pasted text that names none.
    Raises CaseFileError with every fault of a YAML file, UsageError for any other file and for one without numbers.
    """
    if path.suffix == ".json":
        return _of_run(path, ERROR if error is None else error)
    if path.suffix in (".yaml", ".yml"):
        return (_of_yaml(path, error),)
    name = "standard input" if str(path) == "-" else path.name
    return read_pasted(_pasted(path), name, metric, ERROR if error is None else error)


def _pasted(path: Path) -> str:
    content = sys.stdin.buffer.read(MOST_PASTED + 1) if str(path) == "-" else read_input(path, MOST_PASTED)
    if len(content) > MOST_PASTED:
        raise UsageError(f"standard input: larger than {MOST_PASTED:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 at byte {error.start}; a pasted table is text") from None


def _of_yaml(path: Path, error: float | None) -> RecoveryTable:
    file = load_yaml_as(_ADAPTER, path, as_written=True)
    error = file.error if error is None else error
    whole = {file.layers - 1: _left_of(file.direction)} if file.component == _LAST and file.layers else {}
    columns = {metric: _column(metric, numbers, error, whole) for metric, numbers in file.metrics.items()}
    return RecoveryTable(path.name.removesuffix(SUFFIX), columns, file.vocab, file.about)


_LAST = "resid_post"
"""The component that is, at the last layer and the last token, everything that the logits are made of."""


def _left_of(direction: str, slack: float = 0.0) -> Interval:
    """Return what putting all of one run into the other leaves of the distance to the clean run."""
    left = float(direction == Direction.NOISING)
    return Interval(left - slack, left + slack)


def _column(metric: str, numbers: Numbers, error: float, whole: Mapping[int, Interval]) -> Column:
    recoveries = {
        f"layer {layer}": Number.printed(metric, StatedPart.RECOVERY, f"layer {layer}", text, error, whole.get(layer))
        for layer, text in sorted(numbers.recoveries.items())
    }
    return Column(Number.printed(metric, StatedPart.BASELINE, "", numbers.baseline, error), recoveries)


def _of_run(path: Path, error: float) -> tuple[RecoveryTable, ...]:
    from harness.results.json import read

    tables = tuple(table for job in read(path).jobs for table in _of_job(job, error))
    if not tables:
        raise UsageError(f"{path}: no job of this result has numbers; every one was skipped, or ended before its sweep")
    return tables


def _of_job(job: JobResult, error: float) -> Iterator[RecoveryTable]:
    logits = job.card.vocab - len(job.suppressed) if job.card else None
    for component in dict.fromkeys(curve.component for curve in job.curves):
        curves = [curve for curve in job.curves if curve.component == component]
        yield RecoveryTable(
            f"{job.id} {component}", {curve.metric: _of_curve(job, curve, error) for curve in curves}, logits
        )


def _of_curve(job: JobResult, curve: Curve, error: float) -> Column:
    # The component is in the title.
    sites = {str(curve.site(cell)).replace(f" {curve.component}", "", 1): cell for cell in curve.cells}
    return Column(
        _computed(curve.metric, StatedPart.BASELINE, "", curve.baseline, error),
        {
            site: _computed(curve.metric, StatedPart.RECOVERY, site, cell.recovery, error, _known(job, curve, cell))
            for site, cell in sites.items()
        },
    )


_SLACK = {"float16": 10 * 2.0**-11, "bfloat16": 10 * 2.0**-8}
"""Ten roundings of the dtype, as `ERROR` is of float32: batches of two sizes round one row apart."""


def _known(job: JobResult, curve: Curve, cell: Cell) -> Interval | None:
    """Return what a cell leaves whatever the model: the last layer's whole output at the token that is read."""
    if curve.component != _LAST or not job.card or not job.clean or not job.sweep or cell.layer != job.card.layers - 1:
        return None
    last = {"all", "last", "-1", str(len(job.clean.ids) - 1)}
    if last.isdisjoint(cell.position.split(",")):
        return None
    return _left_of(job.sweep.direction, _SLACK.get(job.card.dtype, 0.0))


def _computed(
    metric: str, part: StatedPart, site: str, reading: Reading, error: float, known: Interval | None = None
) -> Number:
    text = reading.state.value if reading.value is None else repr(reading.value)
    return Number(metric, part, site, text, 0.0, error, known)
