"""Prompts and answers as a tokenizer that is at hand reads them: lengths, positions, answers of one token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

from harness.casefile import Case, Conversation, Prompts
from harness.casefile.syntax.document import KeyPath
from harness.engines.paired_questions import of_other_lengths
from harness.engines.pairs import named
from harness.jobs.preflight.shapes import ModelShape
from harness.jobs.preflight.wording import Refused, Unknown
from harness.models.loaded import LoadedModel, Tokenizer
from harness.models.sources.folder import load_tokenizer, read_config
from harness.models.sources.qwen_tokenizer import QWEN, RANKS, QwenTokenizer
from harness.models.sources.wheel import is_cached, locate
from harness.models.sources.words import WordTokenizer
from harness.models.spec import CircuitRow, DialRow, ModelRow, SyntheticRow, WheelRow
from harness.models.tokens import answer_after, read, read_prompts
from harness.vocabulary import ModelCard
from harness.vocabulary.errors import PromptError, UsageError
from harness.vocabulary.words import number_of

UNEVEN = "ALN001"


class FileTokenizer:
    """The `tokenizer.json` of a folder; special tokens are added as the file says, as in a run."""

    def __init__(self, file: Path):
        from tokenizers import Tokenizer as Read

        self._read = Read.from_file(str(file))
        # A file may say how batches are cut and filled up; a run reads one prompt as it is.
        self._read.no_truncation()
        self._read.no_padding()

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return list(self._read.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._read.decode(list(ids), skip_special_tokens=False))


def prompt_faults(case: Case, row: ModelRow, shape: ModelShape) -> Iterator[Refused | Unknown]:
    """Yield what a run on this model would refuse about a case's prompts, answers and positions."""
    values = [value for given in case.pairs for value in (given.clean, given.corrupted, given.answer, given.wrong)]
    values += case.sweep.mean_of or ()
    tokenizer = _tokenizer(row, shape, any(isinstance(value, Conversation) for value in values))
    if tokenizer is None and not all(isinstance(value, tuple | int | None) for value in values):
        yield Unknown("tokens", shape.missing or f"the tokenizer of {row.id} is not on this machine")
        return
    card = ModelCard(row.id, row.source, shape.architecture or "", shape.layers or 0, shape.vocab or 0, "")
    model = LoadedModel(card, None, tokenizer)
    lengths: list[int | None] = []
    for index, given in enumerate(case.pairs):
        at: KeyPath = ("prompts", index) if case.is_averaged else ("prompts",)
        clean, corrupted = [*_lengths(model, given)]
        yield from (
            Refused((*at, key), each)
            for key, each in zip(SIDES, (clean, corrupted), strict=True)
            if isinstance(each, str)
        )
        if isinstance(clean, int) and isinstance(corrupted, int):
            yield from _uneven(case, at, clean, corrupted)
            yield from (Refused((*at, *fault.path), fault.text) for fault in _answers(model, given))
        lengths.append(clean if clean == corrupted and isinstance(clean, int) else None)
    yield from _without_positions(case, lengths)
    for index, each in enumerate(case.sweep.mean_of or ()):
        reading = partial(read, model, each, "the prompt", case.pairs[0].special_tokens)
        yield from _refused(("sweep", "mean_of", index), reading)


SIDES = ("clean", "corrupted")


def _lengths(model: LoadedModel, given: Prompts) -> Iterator[int | str]:
    """Yield how many tokens the clean and the corrupted prompt are, or why the model cannot read one."""
    for key in SIDES:
        try:
            yield len(read(model, getattr(given, key), "the prompt", given.special_tokens).ids)
        except PromptError as error:
            yield str(error)


def _answers(model: LoadedModel, given: Prompts) -> Iterator[Refused]:
    if given.answer is None or given.wrong is None:
        return
    answers = {"answer": given.answer, "wrong": given.wrong}
    faults = [
        fault
        for key, answer in answers.items()
        for fault in _refused((key,), partial(answer_after, model, given, answer, "the answer"))
    ]
    # Two answers that are one token each may still be the same one.
    yield from faults or _refused(("wrong",), partial(read_prompts, model, given))


def _refused(at: KeyPath, reading: Callable[[], object]) -> Iterator[Refused]:
    try:
        reading()
    except PromptError as error:
        yield Refused(at, str(error))


def _uneven(case: Case, at: KeyPath, clean: int, corrupted: int) -> Iterator[Refused]:
    expected = any(UNEVEN in codes for engine in case.engines for codes in case.expectation(engine))
    if clean != corrupted and not expected:
        text = f"{number_of(corrupted, 'token')} where `clean` has {clean}, so positions do not correspond"
        yield Refused((*at, "corrupted"), text)


def _without_positions(case: Case, lengths: Sequence[int | None]) -> Iterator[Refused]:
    """Yield positions of the sweep that a pair of so many tokens does not have; None is a pair without a length."""
    positions = case.sweep.positions
    if positions == "each" and (different := of_other_lengths(lengths)):
        yield Refused(("sweep", "positions"), different)
    for at, position in enumerate(positions if isinstance(positions, tuple) else ()):
        for number, length in enumerate(lengths, 1):
            if length is not None and not -length <= position < length:
                whose = f" of {named([number])}" if case.is_averaged else ""
                text = f"position {position} is outside the prompt of {number_of(length, 'token')}{whose}"
                yield Refused(("sweep", "positions", at), text)


def _tokenizer(row: ModelRow, shape: ModelShape, templated: bool) -> Tokenizer | None:
    """Return the tokenizer of a row if it is at hand: made here, or in a file on this machine.

    A chat template (`templated`) is filled in by the tokenizer that a run loads, which takes a second.
    """
    match row:
        case DialRow():
            from harness.models.sources.groundtruth.dial import TOKENIZER

            return TOKENIZER
        case CircuitRow():
            from harness.models.sources.groundtruth.circuit import TOKENIZER as SUBJECTS

            return SUBJECTS
        case SyntheticRow() if row.tokenizer == "words":
            return WordTokenizer(row.vocab)
        case SyntheticRow():
            return _qwen(locate(QWEN, row.id, download=False) / RANKS) if is_cached(QWEN) else None
    # Both folders of a wheel hold the same tokenizer; it is read once.
    folder = shape.folder.parent / "float16" if shape.folder and isinstance(row, WheelRow) else shape.folder
    if folder and templated:
        return _with_template(folder)
    file = folder / "tokenizer.json" if folder else None
    return _from_file(file) if file is not None and file.is_file() else None


@cache
def _qwen(ranks: Path) -> Tokenizer:
    return QwenTokenizer(ranks)


@cache
def _with_template(folder: Path) -> Tokenizer | None:
    try:
        return load_tokenizer(folder, "the model", read_config(folder, "the model"))
    except UsageError:
        return None


@cache
def _from_file(file: Path) -> Tokenizer | None:
    try:
        return FileTokenizer(file)
    except Exception:  # noqa: BLE001  the library raises bare exceptions for a file it cannot read
        return None
