"""What is diagnosed: a module in memory, a folder, a row of the model table, a repository of the hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any

from harness import models
from harness.casefile import Prompts
from harness.intercept.outputs import activation_of
from harness.models.loaded import LoadedModel
from harness.models.sources.folder import card_of, problem
from harness.models.spec import PathRow
from harness.models.tokens import read, read_prompts
from harness.vocabulary import AnswerTokens, ModelCard, Tokens
from harness.vocabulary.errors import PromptError, UsageError, suggest

Prompt = str | Sequence[int]
DTYPES = ("float32", "float16", "bfloat16")


@dataclass
class ModelUnderTest:
    """A model that may not be loaded yet: its folder is looked at first, because a broken one may not load."""

    name: str
    folder: Path | None = None
    row: Any = None
    loaded: LoadedModel | None = None
    dtype: str | None = None

    def load(self) -> LoadedModel:
        """Return the model, loaded in its own dtype. Raises UsageError or ModelUnavailable."""
        if self.loaded is None:
            self.loaded = models.load(self.row)
        return self.loaded


def subject_of(model: Any, tokenizer: Any, dtype: str | None) -> ModelUnderTest:
    """Return the subject that `diagnose` was given. Raises UsageError for what is none."""
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"{dtype!r} is not a dtype of a run; {suggest(dtype, DTYPES)}")
    if isinstance(model, LoadedModel):
        return ModelUnderTest(model.card.id, loaded=model, dtype=dtype)
    if isinstance(model, str | Path):
        return _named(str(model), dtype)
    if callable(model) and hasattr(model, "named_modules"):
        return ModelUnderTest("given", loaded=_wrapped(model, tokenizer), dtype=dtype)
    raise UsageError(f"{type(model).__name__} is not a model; give an nn.Module, a folder, or the id of a model")


def _named(name: str, dtype: str | None) -> ModelUnderTest:
    row = models.row_named(name)
    folder = Path(row.path) if isinstance(row, PathRow) else None
    if folder and (folder / "config.json").is_file() and (reason := problem(folder)):
        raise UsageError(reason)
    return ModelUnderTest(name, folder, row, None, dtype)


def _wrapped(module: Any, tokenizer: Any) -> LoadedModel:
    """Describe a module without computing anything: it may be what is broken."""
    architecture, vocab = str(getattr(module, "model_type", type(module).__name__)), _vocabulary(module)
    try:
        card = card_of(module, {"model_type": architecture, "vocab_size": vocab}, "given", "given")
    except (AttributeError, TypeError, ValueError):
        card = ModelCard("given", "given", architecture, len(getattr(module, "layers", ())), vocab, "float32")
    return LoadedModel(card, module, tokenizer)


def _vocabulary(module: Any) -> int:
    """Return how many logits a module gives, or 0 where it does not say: a shape is known before any value is."""
    import mlx.core as mx

    size = getattr(getattr(module, "args", None), "vocab_size", None)
    if isinstance(size, int):
        return size
    try:
        logits = activation_of(module(mx.array([[0]])))
        return int(logits.shape[-1]) if logits.ndim == 3 else 0
    except Exception:  # noqa: BLE001  a module that cannot run is told so with its own prompt
        return 0


def tokens_of(model: LoadedModel, prompt: Prompt, name: str) -> Tokens:
    """Return a prompt as ids. Raises PromptError for text without a tokenizer and for an id that does not exist."""
    if not isinstance(prompt, str):
        try:
            prompt = tuple(map(index, prompt))
        except (TypeError, ValueError) as error:
            raise PromptError(f"{name} {prompt!r} is neither text nor a list of token ids") from error
    return read(model, prompt, name)


def answers_of(
    model: LoadedModel, clean: Prompt, corrupted: Prompt, answers: tuple[Any, Any] | None
) -> AnswerTokens | None:
    """Return the ids of (answer, wrong answer), each the token after the prompts as text or as an id.

    Raises PromptError as `harness.models.tokens.read_prompts` does, and for what is not two answers.
    """
    if answers is None:
        return None
    if isinstance(answers, str) or len(answers) != 2:
        raise PromptError(f"answers {answers!r} must be two: the answer and the wrong answer")
    sides = (prompt if isinstance(prompt, str) else tuple(map(index, prompt)) for prompt in (clean, corrupted))
    given = dict(zip(("clean", "corrupted", "answer", "wrong"), (*sides, *answers), strict=True))
    return read_prompts(model, Prompts.model_construct(**given))[2]


@contextmanager
def cast_to(module: Any, dtype: str | None) -> Iterator[None]:
    """Cast every floating parameter for the duration of the block, and give the very same arrays back."""
    if dtype is None:
        yield
        return
    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_unflatten

    before = tree_flatten(module.parameters())
    try:
        module.set_dtype(getattr(mx, dtype))
        yield
    finally:
        module.update(tree_unflatten(before))
