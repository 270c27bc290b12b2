"""What a notebook uses: the published interface, on the harness's own patching and metrics.

from harness import InterpretableModel

model = InterpretableModel(base_model, tokenizer=tokenizer)
results = model.activation_patching(clean_text="...", corrupted_text="...", component="mlp", metric="mse")
results[10]          # percent; a layer without a finite recovery raises with its state
results.states[10]   # always there
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.casefile import Conversation, LongAnswer, Prompts, as_in_a_case
from harness.engines import answer, engine_named
from harness.engines.denominators import doubtful, unusable
from harness.engines.dequantised import Float32Copy, saying
from harness.engines.paired_questions import misaligned, questions_over
from harness.engines.pairs import over_pairs, said_of_pairs
from harness.intercept import forward
from harness.intercept.constancy import Constancy
from harness.intercept.inconstancy import finding_of
from harness.metrics import recommend_metric as recommend_metric
from harness.metrics.layouts import dtype_name
from harness.models import load
from harness.models.architectures import blocks_of
from harness.models.kept import KeptState
from harness.models.loaded import LoadedModel
from harness.models.remarks import remarks
from harness.models.tokens import AnswerText, read_mean_of, read_prompts
from harness.patching import check_question
from harness.patching.remembered import trusting
from harness.results.axes import axis_tokens
from harness.results.reports.summary import over_pairs as over_pairs_of
from harness.vocabulary import (
    COMPONENTS,
    DEQUANTISE,
    METRICS,
    NEVER,
    Answer,
    AnswerTokens,
    Cell,
    Curve,
    Dequantised,
    Direction,
    Finding,
    ModelCard,
    Positions,
    Question,
    Reading,
    Spread,
    State,
    Sweep,
    Tokens,
    bytes_of,
)
from harness.vocabulary.errors import PromptError, UnknownName, UsageError
from harness.vocabulary.findings import Severity
from harness.vocabulary.raised import (
    AlignmentError,
    BaselineError,
    FindingError,
    InconstantModelError,
    refuse_device_failure,
)

Prompt = str | Sequence[int] | Mapping[str, Any]
AnswerToken = str | int | Mapping[str, Any]
_NAMES = {"clean": "clean_text", "corrupted": "corrupted_text", "answer": "answer", "wrong": "wrong answer"}

Key = int | tuple[int, ...]
"""A layer; in a grid (layer, position), (layer, head) or (layer, head, position)."""


@dataclass(frozen=True, eq=False)  # equal to any mapping with the same layers and recoveries
class PatchingResult(Mapping[Key, float]):
    """Recoveries of one component under one metric: layer -> percent, in layer order.

    With `positions="each"` the keys are (layer, position), of the components `z`, `q`, `k` and `v` (layer, head). The
    mapping holds the cells whose recovery is finite; `states` holds every cell. Asking for a cell without a finite
    recovery raises UndefinedRecovery with its state, so that an undefined value is never taken for 0 %.
    """

    curve: Curve
    strategy: str
    answers: AnswerTokens | None = None
    tokens: tuple[str, ...] = ()
    """The text at each position, `clean/corrupted` where the prompts differ; nothing without a tokenizer."""
    fallback: str | None = None
    """Why the sweep went stepwise where one pass was tried; None where it was not, or did."""
    proven_on: str = ""
    """The day of the remembered proof that the walk relied on, as in 2026-11-29; empty where it relied on none."""
    dequantised: Dequantised | None = None
    """What became of the float32 copy; None where none was asked for, or the model is not quantised."""

    @property
    def baseline(self) -> float:
        """The metric on the corrupted run, in `unit`; for a distance, the distance to the clean run."""
        assert self.curve.baseline.value is not None  # a sweep without a baseline raises instead of returning
        return self.curve.baseline.value

    @property
    def metric(self) -> str:
        return self.curve.metric

    @property
    def component(self) -> str:
        return self.curve.component

    @property
    def unit(self) -> str:
        return self.curve.unit

    @property
    def pairs(self) -> dict[Key, Spread]:
        """Of several pairs of prompts, what each mean is over: `.of` has every pair's reading, `.standard_error` and
        `.interval` say how sure the mean is, `.over` and `.undefined` how many pairs are in it. Empty for one pair."""
        return {self.curve.key(cell): cell.pairs for cell in self.curve.cells if cell.pairs}

    @property
    def states(self) -> dict[Key, State]:
        return {self.curve.key(cell): cell.recovery.state for cell in self.curve.cells}

    def __getitem__(self, key: Key) -> float:
        for cell in self.curve.cells:
            if self.curve.key(cell) == key:
                if cell.recovery.value is None:
                    raise UndefinedRecovery(key, cell.recovery)
                return cell.recovery.value
        raise KeyError(key)

    def __iter__(self) -> Iterator[Key]:
        return (self.curve.key(cell) for cell in self.curve.cells if cell.recovery.finite)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        shown = ", ".join(f"{self.curve.key(cell)}: {_short(cell)}" for cell in self.curve.cells)
        over = f", means of {over_pairs_of(self.curve)}" if self.curve.pairs else ""
        baseline = self.curve.baseline.text()
        return f"PatchingResult({self.component}, {self.metric}, baseline {baseline}, {{{shown}}}{over})"

    def top(self, count: int = 3) -> dict[Key, float]:
        """Return the cells that move most, the largest move first: from 0 % in either direction."""
        return dict(sorted(self.items(), key=lambda item: -abs(item[1]))[:count])

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with a row a cell. Raises UsageError without pandas."""
        try:
            import pandas
        except ImportError as error:
            raise UsageError("to_frame needs pandas: pip install pandas") from error
        return pandas.DataFrame(self.to_dict()["recoveries"])

    def _repr_html_(self) -> str:
        """Return the picture that a notebook shows: bars over layers or a map, as in the HTML report."""
        from harness.results.reports.html import in_a_notebook

        return in_a_notebook(self.curve, self.tokens)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types; an undefined recovery is null beside its state."""
        return {
            "component": self.component,
            "metric": self.metric,
            "unit": self.unit,
            "baseline": self.curve.baseline.value,
            "strategy": self.strategy,
            "recoveries": [
                {"layer": cell.layer, "position": cell.position, **({} if cell.head is None else {"head": cell.head}),
                 "percent": cell.recovery.value, "state": cell.recovery.state.value, **_of_pairs(cell)}
                for cell in self.curve.cells
            ],
        }  # fmt: skip

    def plot(self, file: str | Path | None = None, figsize: tuple[float, float] = (12, 8), cmap: str = "RdBu_r") -> Any:
        """Draw the recoveries and return the matplotlib figure; written to `file` if one is given."""
        from harness.results.plots import draw

        return draw([self.curve], file=file, figsize=figsize, cmap=cmap, tokens=self.tokens, keep=file is None)


def _short(cell: Cell) -> str:
    return f"{cell.recovery.text('.1f')}{cell.pairs.around if cell.pairs else ''}"


def _of_pairs(cell: Cell) -> dict[str, Any]:
    """Return what a mean has beside it as JSON types; `pairs` and `defined` count."""
    if cell.pairs is None:
        return {}
    low, high = cell.pairs.interval or (None, None)
    counts = {"pairs": len(cell.pairs.of), "defined": cell.pairs.defined, "undefined": cell.pairs.undefined}
    return {"standard_error": cell.pairs.standard_error, "low": low, "high": high, **counts}


class UndefinedRecovery(UsageError, KeyError):
    """A layer was asked for whose recovery is not a finite number."""

    def __init__(self, key: Key, recovery: Reading):
        self.layer, self.state = key, recovery.state
        super().__init__(f"layer {key} has no recovery: its state is {recovery.state.value}; see .states")

    def __str__(self) -> str:
        return str(self.args[0])


class InterpretableModel:
    """A model with its tokenizer, ready to be patched. Any `nn.Module` with `.layers` that returns logits will do.

    A string is the id of a bundled model, an mlx-lm folder, or a repository of the hub, which is fetched if need be.
    """

    def __init__(self, base_model: Any, tokenizer: Any = None):
        if isinstance(base_model, str | Path):
            given = load(base_model, download=True)
            base_model, tokenizer = given.module, tokenizer or given.tokenizer
        self.base_model, self.tokenizer = base_model, tokenizer
        kept = KeptState(base_model)
        self._loaded = _wrapped(base_model, tokenizer)
        kept.put_back()  # what a model makes for the first prompt is made for one of the user's
        self._asked = False
        """Whether the model was asked A, B, A."""

    def activation_patching(
        self,
        clean_text: Prompt,
        corrupted_text: Prompt,
        component: str = "mlp",
        layers: Sequence[int] | None = None,
        metric: str = "l2",
        plot: bool = False,
        figsize: tuple[float, float] = (12, 8),
        cmap: str = "RdBu_r",
        *,
        direction: str = "denoising",
        positions: Positions | Sequence[int] = "all",
        answers: tuple[AnswerToken, AnswerToken] | None = None,
        special_tokens: bool = True,
        value: str = "other",
        mean_of: Sequence[Prompt] = (),
        strategy: str = "auto",
        memory: int | str | None = None,
        prove: bool = False,
        dequantise: str = NEVER,
    ) -> PatchingResult:
        """Patch one component, layer by layer, and return how far the last token's logits come back, in percent.

        Prompts are text, token ids, or `{"messages": [{"role": "user", "content": "..."}]}` for the tokenizer's chat
        template; with `special_tokens=False` the tokenizer adds nothing to text, such as BOS. `answers` is (answer,
        wrong answer) for `logit_diff` and `log_prob`, each the token after the prompts, as text, as an id, or as
        `{"text": "...", "token": "first"}`; without it, the tokens that the clean and the corrupted run prefer.
        `positions` is "all", "last", token indices, or "each":
        then every position of every layer is a cell of its own. `value` is what is put in: the "other" run's
        activation, "zero", or the "mean" over every token of the prompts in `mean_of`. `memory`, in bytes or as "2GB",
        is what a walk over the layers may take above the weights; without it a quarter of what is free, at most 1 GiB.
        `prove` makes the proof of the walk anew where an earlier one is remembered. `dequantise="auto"` sweeps a
        float32 copy of a quantised model where that pays (`harness.engines.dequantised`), for this call only;
        `.dequantised` says what became of it.

        Raises AlignmentError for prompts of different length, UnknownName for an unknown component, metric, direction,
        strategy or `dequantise`, PromptError or UsageError for other requests that cannot be carried out, and
        BaselineError where the baseline is zero, not finite, or no farther from the clean run than rounding puts it.
        The first call asks the model A, B, A, and raises InconstantModelError where it answers one prompt in two ways.
        Warns (UserWarning) of error bars over 100 points, of answers that the two runs score the other way round, and
        of a device that is not deterministic. A sweep that ends early raises SweepFailed or SweepInterrupted, which
        hold the finished cells in `.answer`. The model is afterwards what it was before, whatever happens.
        """
        model = self._loaded
        question = _question(
            model,
            clean_text,
            corrupted_text,
            component,
            layers,
            metric,
            direction,
            positions,
            answers,
            special_tokens,
            strategy,
            _amount(memory),
            value,
            mean_of,
        )
        _known("way to dequantise", dequantise, DEQUANTISE)
        check_question(model, question)
        if plot:
            from harness.results.plots import colours, show

            colours(cmap)
        with trusting(anew=prove):
            given = self._constant(question, lambda: _swept(model, question, dequantise))
        tokens = axis_tokens(question.clean, question.corrupted)
        how = (given.strategy, given.answers, tokens, given.fallback, given.proven_on, given.dequantised)
        result = PatchingResult(_usable(question, given), *how)
        for finding in doubtful(question, given):
            warnings.warn(str(finding), stacklevel=2)
        if plot:
            show([result.curve], figsize, cmap, tokens)
        return result

    def patching_over_pairs(
        self,
        pairs: Sequence[Mapping[str, Any]],
        component: str = "mlp",
        layers: Sequence[int] | None = None,
        metric: str = "l2",
        *,
        direction: str = "denoising",
        positions: Positions | Sequence[int] = "all",
        value: str = "other",
        mean_of: Sequence[Prompt] = (),
        strategy: str = "auto",
        memory: int | str | None = None,
        prove: bool = False,
    ) -> PatchingResult:
        """Patch one component for several pairs of prompts, and return the mean recoveries in percent.

        A pair is what `prompts` of a case may hold: `clean` and `corrupted`, and if wanted `answer`, `wrong` and
        `special_tokens`. Pairs may differ in length from each other, unless `positions` is "each". The mapping holds
        the means over the pairs that have a value, and `.pairs` beside each its standard error, its interval and how
        many pairs are in it. `value` and `mean_of` are those of `activation_patching`, one mean for all pairs.

        Raises and warns like `activation_patching`, with the pair's number from 1: AlignmentError for a pair of unequal
        lengths and PromptError for one that cannot be read, before any forward pass. A pair without a baseline is a
        warning and counted as undefined; BaselineError is raised where no pair has one.
        """
        _known("metric", metric, METRICS)
        sweep = _sweep(component, layers, direction, positions, strategy, _amount(memory), value)
        means = read_mean_of(self._loaded, _mean_of(mean_of), value, "mean_of")
        questions = self._questions(pairs, sweep, metric, means)
        with trusting(anew=prove):
            answered = [self._of_pair(each) for each in questions]
        found = said_of_pairs([unsure for _, unsure in answered])
        answers = [given for given, _ in answered]
        given = over_pairs(answers) if any(answers) else None
        if given is None or not given.curves[0].baseline.finite:
            raise BaselineError(found[0])
        for finding in found:
            warnings.warn(str(finding), stacklevel=2)
        return PatchingResult(given.curves[0], given.strategy, fallback=given.fallback, proven_on=given.proven_on)

    def _of_pair(self, question: Question) -> tuple[Answer | None, list[Finding]]:
        """Return what a pair is answered, and why its numbers are absent or doubtful."""
        try:
            given = self._constant(question, lambda: answer(engine_named("native"), self._loaded, question))
            return given, _unsure(question, given)
        except FindingError as error:
            if error.finding.code != "ANS001":  # both runs prefer one token
                raise
            return None, [error.finding]

    def _questions(
        self, pairs: Sequence[Mapping[str, Any]], sweep: Sweep, metric: str, mean_of: tuple[Tokens, ...]
    ) -> tuple[Question, ...]:
        if isinstance(pairs, str | Mapping) or not pairs:
            raise PromptError(f"pairs {pairs!r} must be a list of mappings, each with `clean` and `corrupted`")
        given = [as_in_a_case(Prompts, pair, f"pair {number}") for number, pair in enumerate(pairs, 1)]
        questions = questions_over(self._loaded, given, sweep, (metric,), mean_of)
        if uneven := misaligned(questions):
            raise AlignmentError(uneven[0])
        for question in questions:
            check_question(self._loaded, question)
        odd = [remarks(self._loaded, *each) for each in zip(given, questions, strict=True)]
        for remark in said_of_pairs(odd):
            if remark.severity is Severity.WARNING:
                warnings.warn(str(remark), stacklevel=3)
        return questions

    def _constant(self, question: Question, sweep: Callable[[], Answer]) -> Answer:
        """Return what a sweep answers; after the first one of a model it is asked A, B, A."""
        if self._asked:
            return sweep()
        constancy = Constancy(self._loaded)
        try:
            given = sweep()
        except Exception:
            _refuse_inconstant(constancy, question)
            raise
        _refuse_inconstant(constancy, question)
        self._asked = True
        return given


def activation_patching(
    model: Any, tokenizer: Any, clean_text: Prompt, corrupted_text: Prompt, **options: Any
) -> PatchingResult:
    """Patch a model once; see `InterpretableModel.activation_patching` for the options."""
    return InterpretableModel(model, tokenizer).activation_patching(clean_text, corrupted_text, **options)


def _swept(model: LoadedModel, question: Question, dequantise: str) -> Answer:
    """Return what the native engine answers, on a copy that is made for this sweep where it pays and is asked for: the
    model is the user's, and may be another one at the next call."""
    engine = engine_named("native")
    if dequantise == NEVER:
        return answer(engine, model, question)
    swept, said = Float32Copy(model).chosen(engine, question)
    return saying(said, lambda: answer(engine, swept, question))


def _refuse_inconstant(constancy: Constancy, question: Question) -> None:
    try:
        found = constancy.asked(question.target, question.source)
    except Exception as error:  # noqa: BLE001  a model that cannot be run has said so in the sweep
        refuse_device_failure(error)
        return
    if found is not None and found.is_the_models:
        raise InconstantModelError(finding_of(found))
    if found is not None:
        warnings.warn(str(finding_of(found)), stacklevel=5)


def _wrapped(module: Any, tokenizer: Any) -> LoadedModel:
    layers = len(blocks_of(module))
    probe = LoadedModel(ModelCard("given", "given", "", layers, 0, ""), module, tokenizer)
    row = forward(probe, [0])
    architecture = str(getattr(module, "model_type", type(module).__name__))
    card = ModelCard("given", "given", architecture, layers, row.size, dtype_name(row))
    return LoadedModel(card, module, tokenizer)


def _question(
    model: LoadedModel, clean: Prompt, corrupted: Prompt, component: str, layers: Sequence[int] | None, metric: str,
    direction: str, positions: Positions | Sequence[int], answers: tuple[AnswerToken, AnswerToken] | None,
    special_tokens: bool, strategy: str, memory: int | None, value: str, mean_of: Sequence[Prompt],
) -> Question:  # fmt: skip
    _known("metric", metric, METRICS)
    given = _prompts(clean, corrupted, answers, special_tokens)
    clean_tokens, corrupted_tokens, answer_tokens = read_prompts(model, given, _NAMES)
    sweep = _sweep(component, layers, direction, positions, strategy, memory, value)
    means = read_mean_of(model, _mean_of(mean_of), value, "mean_of", special=special_tokens)
    question = Question(clean_tokens, corrupted_tokens, sweep, (metric,), answer_tokens, means)
    for remark in remarks(model, given, question):
        if remark.severity is Severity.WARNING:
            warnings.warn(str(remark), stacklevel=3)
    return question


def _sweep(
    component: str, layers: Sequence[int] | None, direction: str, positions: Positions | Sequence[int], strategy: str,
    memory: int | None, value: str = "other",
) -> Sweep:  # fmt: skip
    _known("direction", direction, list(Direction))
    if not isinstance(component, str):
        raise UnknownName("component", str(component), COMPONENTS)
    asked = None if layers is None else _whole("layers", layers)
    return Sweep((component,), asked, Direction(direction), _positions(positions), strategy, memory, value)


def _unsure(question: Question, given: Answer) -> list[Finding]:
    """Return why a pair has no baseline, and what makes its recoveries doubtful."""
    try:
        _usable(question, given)
    except BaselineError as error:
        return [error.finding, *doubtful(question, given)]
    return [*doubtful(question, given)]


def _prompts(
    clean: Prompt, corrupted: Prompt, answers: tuple[AnswerToken, AnswerToken] | None, special_tokens: bool
) -> Prompts:
    if answers is not None and (isinstance(answers, str | Mapping) or len(answers) != 2):
        raise PromptError(f"answers {answers!r} must be two: the answer and the wrong answer")
    answer, wrong = (None, None) if answers is None else map(_answer, ("answer", "wrong answer"), answers)
    return Prompts.model_construct(
        clean=_prompt("clean_text", clean),
        corrupted=_prompt("corrupted_text", corrupted),
        answer=answer,
        wrong=wrong,
        special_tokens=special_tokens,
    )


def _prompt(name: str, prompt: Prompt) -> str | tuple[int, ...] | Conversation:
    if isinstance(prompt, str):
        return prompt
    return as_in_a_case(Conversation, prompt, name) if isinstance(prompt, Mapping) else _whole(name, prompt)


def _mean_of(prompts: Sequence[Prompt]) -> tuple[str | tuple[int, ...] | Conversation, ...]:
    if isinstance(prompts, str | Mapping) or any(isinstance(each, int) for each in prompts):
        raise PromptError(f"mean_of {prompts!r} is one prompt; give a list of prompts")
    return tuple(_prompt(f"mean_of[{index}]", each) for index, each in enumerate(prompts))


def _answer(name: str, answer: AnswerToken) -> AnswerText:
    if isinstance(answer, Mapping):
        return as_in_a_case(LongAnswer, answer, name)
    try:
        return answer if isinstance(answer, str) else operator.index(answer)
    except TypeError as error:
        raise PromptError(f"{name} {answer!r} must be text, a token id, or text and token of a mapping") from error


def _positions(positions: Positions | Sequence[int]) -> Positions:
    if not isinstance(positions, str):
        return _whole("positions", positions)
    _known("choice of positions", positions, ("all", "last", "each"))
    return positions


def _amount(memory: int | str | None) -> int | None:
    if memory is None or (isinstance(memory, int) and memory > 0):
        return memory
    try:
        return bytes_of(str(memory))
    except ValueError as error:
        raise UsageError(f"memory: {error}") from error


def _known(kind: str, name: str, known: Iterable[str]) -> None:
    if not isinstance(name, str) or name not in known:
        raise UnknownName(kind, str(name), known)


def _whole(name: str, values: Sequence[int]) -> tuple[int, ...]:
    try:
        return tuple(operator.index(value) for value in values)
    except TypeError as error:
        raise UsageError(f"{name} {values!r} must be a list of whole numbers") from error


def _usable(question: Question, given: Answer) -> Curve:
    (curve,) = given.curves
    if curve.baseline.finite:
        return curve
    if nothing := next(unusable(question, given), None):
        raise BaselineError(replace(nothing, metric=curve.metric))
    code = "FIN001" if not given.clean.finite else "FIN002" if not given.corrupted.finite else "FIN004"
    raise BaselineError(Finding(code, f"the baseline is {curve.baseline.state.value}", metric=curve.metric))
