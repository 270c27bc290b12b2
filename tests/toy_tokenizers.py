"""Small tokenizers built here, one for each way in which text gets special tokens and spaces.

Each is trained on the same few sentences, so every word of them is a token, and is wrapped as mlx-lm wraps a folder's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers import models as kinds

from harness.models import PathRow
from harness.models.loaded import LoadedModel
from harness.vocabulary import ModelCard

CORPUS = ["The capital of France is Paris", "The capital of Italy is Rome", "Name it It is 181 5 6"] * 9
VOCAB = 512
CHAT = (
    "{{ bos_token }}{% for turn in messages %}{% if turn.role == 'system' %}"
    "{{ raise_exception('no system turn here') }}{% endif %}[{{ turn.role }}] {{ turn.content }} {% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
ROLES = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
SPECIAL = ["<pad>", "<s>", "</s>", "[UNK]", "[CLS]", "[SEP]", "[user]", "[assistant]"]


def _added(template: str) -> Any:
    ids = [(name, SPECIAL.index(name)) for name in SPECIAL if name in template]
    return processors.TemplateProcessing(single=template, pair=f"{template} $B", special_tokens=ids)


def _byte_level(template: str) -> Tokenizer:
    """Byte-pair encoding over bytes, a leading space staying with its word, as of Llama 3 and Qwen."""
    made = Tokenizer(kinds.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    made.post_processor = _added(template)
    return made


def _metaspace(template: str) -> Tokenizer:
    """A space before every text, as SentencePiece puts it for Mistral and Llama 2."""
    made = Tokenizer(kinds.BPE(unk_token="[UNK]"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=SPECIAL))
    made.post_processor = _added(template)
    return made


def _word_piece(template: str) -> Tokenizer:
    made = Tokenizer(kinds.WordPiece(unk_token="[UNK]"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    made.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=VOCAB, special_tokens=SPECIAL))
    made.post_processor = _added(template)
    return made


TOYS: Mapping[str, Callable[[], Tokenizer]] = {
    "byte-level with BOS": lambda: _byte_level("<s> $A"),
    "byte-level with nothing": lambda: _byte_level("$A"),
    "metaspace with BOS": lambda: _metaspace("<s> $A"),
    "metaspace with EOS": lambda: _metaspace("$A </s>"),
    "byte-level with BOS and EOS": lambda: _byte_level("<s> $A </s>"),
    "word pieces with CLS and SEP": lambda: _word_piece("[CLS] $A [SEP]"),
}


@cache
def toy(name: str, chat: bool = False) -> Any:
    """Return a toy as transformers' tokenizer; with a chat template if asked for."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=TOYS[name](), **ROLES, **({"chat_template": CHAT} if chat else {}))


class Stubborn:
    """A user's own tokenizer, which adds BOS to everything and has no say in it."""

    def __init__(self, inner: Any):
        self.inner = inner

    def encode(self, text: str) -> list[int]:
        return self.inner.encode(text)

    def decode(self, ids: list[int]) -> str:
        return self.inner.decode(ids)


def reading(tokenizer: Any, vocab: int = 0) -> LoadedModel:
    """Return a model of which nothing is asked but its tokenizer."""
    return LoadedModel(ModelCard("toy", "given", "", 0, vocab, ""), None, tokenizer)


def folder_with(tokenizer: Any, folder: Path, vocab: int = VOCAB) -> PathRow:
    """Write an mlx-lm folder with a tokenizer and seeded weights, and return its row."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from harness.models.sources import synthetic
    from harness.models.spec import SyntheticRow

    row = SyntheticRow(id="small", source="synthetic", architecture="llama", vocab=vocab, layers=2)
    module, config = synthetic.build(row)
    folder.mkdir(parents=True)
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(module.parameters())))
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    return PathRow(id="toy", source="path", path=str(folder))
