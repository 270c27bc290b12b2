"""The models an engine is asked about, from the smallest: architectures, dtypes, and models known in closed form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from harness import models
from harness.models.loaded import LoadedModel
from harness.models.sources import miniatures
from harness.models.sources.folder import cast
from harness.models.sources.miniatures import reasons
from harness.vocabulary.errors import UnknownName, UsageError

CLEAN, CORRUPTED = (3, 7, 11, 200, 5, 9), (3, 8, 11, 200, 6, 9)
"""Prompts that differ at an early and at a late token and agree in the first and the last."""

USUAL = (
    "llama", "qwen2", "qwen3", "qwen3_moe", "gpt2", "gpt_neox", "gemma2", "gemma3_text", "phi3", "mixtral", "olmo2",
    "lfm2", "qwen3_next", "mamba2", "olmo_hybrid", "recurrent_gemma", "iquestloopcoder",
)  # fmt: skip
"""Architectures of the default set: the families people patch, norms after modules, experts, hybrids, no attention,
blocks of several kinds under one name, modules that run more than once."""

HALVES = ("llama", "qwen3", "gemma2")
"""Architectures also asked about in float16 and bfloat16."""

_KNOWN = (
    "dial-152k-f32", "dial-152k-f16", "dial-152k-bf16", "dial-mean10-f32", "dial-extreme-f16", "dial-huge-f32",
    "dial-huge-bf16", "dial-tiny-f32", "dial-parallel-f32", "dial-suppressed-f16", "dial-nan-f16", "dial-inf-f16",
    "circuit-llama-2k-f32", "circuit-qwen3-152k-f32", "circuit-qwen3-152k-f16", "circuit-qwen3-152k-bf16",
)  # fmt: skip
_UNDEFINED = ("nan", "inf")


@dataclass(frozen=True)
class ModelRow:
    """One model: how it is built, the prompts, and which laws it cannot be held to, with the reason."""

    id: str
    build: Callable[[], LoadedModel]
    clean: tuple[int, ...] = CLEAN
    corrupted: tuple[int, ...] = CORRUPTED
    undefined: bool = False
    layers: tuple[int, ...] | None = None
    """The layers that are asked about; None means all."""
    exempt: Mapping[str, reasons.Reason] | None = None

    def asked(self, clean: tuple[int, ...], corrupted: tuple[int, ...], layers: tuple[int, ...]) -> ModelRow:
        """Return the row with other prompts, or fewer layers, where they are given.

        Raises UsageError for what its model does not have.
        """
        if bool(clean) is not bool(corrupted) or len(clean) != len(corrupted):
            raise UsageError(f"{len(clean)} clean and {len(corrupted)} corrupted ids; give both, equally many")
        card = self.build().card
        for name, given, below in (("token", (*clean, *corrupted), card.vocab), ("layer", layers, card.layers)):
            if wrong := [each for each in given if not 0 <= each < below]:
                raise UsageError(f"{self.id} has no {name} {wrong[0]}; the last is {below - 1}")
        return replace(self, clean=clean or self.clean, corrupted=corrupted or self.corrupted, layers=layers or None)

    def reason(self, law: str) -> str | None:
        """Return why a law does not hold here for anybody; a reason of another law is none."""
        known = self.exempt or {}
        return next((known[column].text for column in ("builds", law) if column in known and law in _EXCUSED), None)


_EXCUSED = ("answers", "residual")
"""Laws that a reason of the matrix of architectures can excuse: of a model that cannot run here nothing else is asked,
and the residual stream does not carry everything in every model. All other laws hold for `native` on all of them."""


def usual_rows() -> list[ModelRow]:
    """Return the default set."""
    halves = [architecture(name, dtype) for name in HALVES for dtype in ("float16", "bfloat16")]
    return [*(architecture(name) for name in USUAL), *halves, *(known(name) for name in _KNOWN)]


def all_rows() -> list[ModelRow]:
    """Return the default set and every other architecture of the installed mlx-lm."""
    others = [architecture(name) for name in miniatures.architectures() if name not in USUAL]
    return [*usual_rows(), *others]


def rows_named(names: Iterable[str]) -> list[ModelRow]:
    """Return rows by id. Raises UnknownName."""
    every = {row.id: row for row in all_rows()}
    for name in names:
        if name not in every:
            raise UnknownName("row", name, every)
    return [every[name] for name in names]


def architecture(name: str, dtype: str = "float32") -> ModelRow:
    """Return the small model of an architecture."""
    short = {"float32": "", "float16": "-f16", "bfloat16": "-bf16"}[dtype]
    return ModelRow(name + short, partial(_small, name, dtype), exempt=reasons.REASONS.get(name))


def known(name: str) -> ModelRow:
    """Return a ground-truth model of the bundled table."""
    row = models.bundled()[name]
    clean, corrupted = ((0,), (1,)) if name.startswith("dial") else ((1, 5, 6, 7), (2, 5, 6, 7))
    return ModelRow(
        name, partial(models.load, row), clean, corrupted, undefined=any(part in name for part in _UNDEFINED)
    )


def _small(name: str, dtype: str) -> LoadedModel:
    model = miniatures.load(name)
    if dtype == "float32":
        return model
    cast(model.module, dtype)
    return replace(model, card=replace(model.card, dtype=dtype))
