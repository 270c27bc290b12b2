"""What a job asks of an engine: two prompts, a sweep over components and layers, metrics over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.vocabulary.errors import UnknownName
from harness.vocabulary.words import number_of


class Direction(StrEnum):
    """Denoising puts the clean value into the corrupted run; noising the corrupted value into the clean run.

    Recovery has the same formula in both: 100 is the clean output, 0 the corrupted output.
    """

    DENOISING = "denoising"
    NOISING = "noising"


@dataclass(frozen=True)
class Metric:
    """One way to turn last-token logits into a number.

    A distance is 0 on the clean run and its baseline is its value on the corrupted run; a score, which needs answers,
    is compared on both.
    """

    name: str
    unit: str
    needs_answers: bool
    about: str


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("l2", "logits", False, "Euclidean distance to the clean logits"),
        Metric("mse", "logits²", False, "mean squared difference to the clean logits"),
        Metric("cosine", "1 - cos", False, "cosine distance to the clean logits"),
        Metric("kl_divergence", "nats", False, "KL(clean || x) of the softmax distributions, 0 log 0 = 0"),
        Metric("logit_diff", "logits", True, "logit of the answer minus logit of the wrong answer"),
        Metric("log_prob", "nats", True, "log probability of the answer"),
    )
}


def is_code(name: str) -> bool:
    """Return whether a metric or an engine is somebody's own code, `module:function`, and runs only if allowed."""
    return ":" in name


def code_refusal(noun: str, name: str, permission: str = "--allow-code") -> str:
    """Return what is said to somebody who names code and has not allowed it; `permission` is what would allow it."""
    return f"the {noun} {name!r} is code of your own, and runs only with {permission}; nothing was imported"


def metric_named(name: str) -> Metric:
    """Return a metric of the table, or the one that `module:function` means. Raises UnknownName."""
    if is_code(name):
        return Metric(name, "", False, "a function of the user's own")
    if name not in METRICS:
        raise UnknownName("metric", name, METRICS)
    return METRICS[name]


COMPONENTS: Mapping[str, str] = {
    "resid_pre": "residual stream into the block",
    "attn_out": "output of the last module before the attention's residual add",
    "mlp_out": "output of the last module before the MLP's residual add",
    "resid_post": "residual stream out of the block",
    "self_attn": "the attention module's own output",
    "attn": "the attention module's own output",
    "mlp": "the MLP module's own output",
    "output": "the block's own output",
    "z": "attention's output before its output projection, one head at a time",
    "q": "output of the query projection, before any norm and rotation of its own, one head at a time",
    "k": "output of the key projection, before any norm and rotation of its own, one head of keys at a time",
    "v": "output of the value projection, one head of values at a time",
    "mlp_post": "the MLP's neurons: input of its down projection",
}

PER_HEAD = ("z", "q", "k", "v")
"""Components that are read one head at a time, so that a cell of theirs has a head. Heads of `k` and `v` are those that
keys and values have: fewer than those of queries where several of these share one."""


VALUES: Mapping[str, str] = {
    "other": "the activation of the other run",
    "zero": "zeros",
    "mean": "the mean of the activation over every token of given prompts",
}
"""What a patch may put in."""


STRATEGIES = ("auto", "one-pass", "stepwise")
"""Orders of work over a sweep; `auto` is one-pass wherever it is proven equal to stepwise."""


Positions = str | tuple[int, ...]
"""`"all"`, `"last"`, token indices (negative ones count from the end), or `"each"`: a layer x position grid."""


def site_position(positions: Positions) -> str:
    """Return how a site names its positions: `all`, `last`, or the indices."""
    return positions if isinstance(positions, str) else ",".join(map(str, positions))


def positions_text(positions: Positions) -> str:
    """Return how a person reads them: `all`, `last`, `each`, or the indices in brackets."""
    return positions if isinstance(positions, str) else f"[{site_position(positions)}]"


@dataclass(frozen=True)
class Tokens:
    """A prompt as the model reads it: ids, and one piece of text for each or none at all. Raises ValueError."""

    ids: tuple[int, ...]
    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.texts) not in (0, len(self.ids)):
            raise ValueError(f"{number_of(len(self.texts), 'text')} of {number_of(len(self.ids), 'id')}")


@dataclass(frozen=True)
class AnswerTokens:
    """Token ids whose logits `logit_diff` and `log_prob` read; `answer, wrong = answers` unpacks them."""

    answer: int
    wrong: int

    def __iter__(self) -> Iterator[int]:
        return iter((self.answer, self.wrong))


@dataclass(frozen=True)
class AskedPair:
    """One of several pairs of prompts as the model reads it, and the answers that were read after it, if any were."""

    clean: Tokens
    corrupted: Tokens
    answers: AnswerTokens | None = None


@dataclass(frozen=True)
class Sweep:
    """The grid to walk: components x layers (None: every layer), patched at `positions`."""

    components: tuple[str, ...]
    layers: tuple[int, ...] | None = None
    direction: Direction = Direction.DENOISING
    positions: Positions = "all"
    strategy: str = "auto"
    memory: int | None = None
    """Bytes that the rows of one walk may take; None: what the machine has free decides."""
    value: str = "other"
    """What is put in, one of VALUES."""


@dataclass(frozen=True)
class Question:
    """What an engine is asked: two prompts of equal token length, a sweep, and metrics over it.

    `mean_of` are the prompts of any lengths that a sweep whose value is `mean` is the mean over.
    """

    clean: Tokens
    corrupted: Tokens
    sweep: Sweep
    metrics: tuple[str, ...]
    answers: AnswerTokens | None = None
    mean_of: tuple[Tokens, ...] = ()

    @property
    def source(self) -> tuple[int, ...]:
        """Token ids of the run the activations come from."""
        return (self.corrupted if self.sweep.direction is Direction.NOISING else self.clean).ids

    @property
    def target(self) -> tuple[int, ...]:
        """Token ids of the run that is patched."""
        return (self.clean if self.sweep.direction is Direction.NOISING else self.corrupted).ids


@dataclass(frozen=True)
class Site:
    """One cell of a sweep: a component at a layer, at some positions."""

    component: str
    layer: int
    position: str = "all"
    head: int | None = None

    def __str__(self) -> str:
        head = "" if self.head is None else f", head {self.head}"
        where = "" if self.position == "all" else f", position {self.position}"
        return f"layer {self.layer} {self.component}{head}{where}"
