"""Sentences of few words, and a tokenizer that knows them."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ("a", "bird", "cat", "dog", "eats", "fish", "sees", "sleeps", "small", "the")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
VOCABULARY = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
# Every sentence twice as long as another is there: 40 different ones, from 2 words to 9.
SENTENCES = tuple(
    " ".join(WORDS[(start * 3 + step * (1 + start % 4)) % len(WORDS)] for step in range(2 + start % 8))
    for start in range(40)
)


def word_tokenizer(folder: Path) -> Path:
    """Write a tokenizer that knows `WORDS` into a folder, as transformers would, and return the folder."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]"}))
    return folder


def slow_tokens(sentence: str, max_length: int) -> list[int]:
    """Return the tokens of a sentence, word by word."""
    ids = [VOCABULARY.get(word, 1) for word in sentence.split()]
    return [2, *ids[: max_length - 2], 3]
