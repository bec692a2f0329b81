"""Any JSON as a tokenizer, beside sentences that are in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mcomp.errors import RecipeError
from tests.fuzz.properties import require_good_words
from tests.hostile.attack import files
from tests.hostile.sentences import GOOD, JSON, PADDING, TOKENIZER, load

PARTS: tuple[dict[str, Any], ...] = (
    {"padding": PADDING},
    {"model": {"type": "BPE", "vocab": {"[PAD]": 0, "a": 1, "b": 2, "ab": 3}, "merges": ["a b"]}},
    {"model": {"type": "WordPiece", "vocab": {"[PAD]": 0, "[UNK]": 1, "a": 2}, "unk_token": "[UNK]"}},
    {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["[PAD]", 0.0], ["a", -1.0]]}},
    {"post_processor": {"type": "BertProcessing", "sep": ["[PAD]", 0], "cls": ["[UNK]", 1]}},
    {"normalizer": {"type": "BertNormalizer", "lowercase": True}, "pre_tokenizer": {"type": "ByteLevel"}},
)
SEEDS = [json.dumps({**TOKENIZER, **part}).encode() for part in ({}, *PARTS)]
IS_JSON = True


def attempt(data: bytes) -> None:
    """Load sentences with it. Expressions and replacements, which may compute without end, are left out."""
    if b"Regex" in data or b"Replace" in data:
        return
    files({**GOOD, JSON: data})(Path())
    try:
        load(Path())
    except RecipeError as error:
        require_good_words(error)
