"""Sentences and tokenizers of others: what is no file, lies about padding, and parts that Rust panics at."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.hostile.attack import Attack, Prepare, both, files, hole, link, pipe
from tests.hostile.pickles import ESCAPES

LINES = "\n".join(f"a b {number}" for number in range(40))
TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "truncation": None,
    "padding": None,
    "model": {"type": "WordLevel", "vocab": {"[PAD]": 0, "[UNK]": 1, "a": 2, "b": 3}, "unk_token": "[UNK]"},
}
PADDING = {
    "strategy": "BatchLongest",
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "[PAD]",
}
GOOD = {
    "sentences.txt": LINES,
    "tokenizer/tokenizer.json": json.dumps(TOKENIZER),
    "tokenizer/tokenizer_config.json": json.dumps({"pad_token": "[PAD]"}),
}


def config_of(folder: Path) -> Any:
    """Return what a recipe says of such data."""
    from mcomp_stages.data.sentences import SentencesConfig

    return SentencesConfig(path=folder / "sentences.txt", tokenizer=folder / "tokenizer", calibration=2)


def plan(folder: Path) -> None:
    """Look at the data as the plan of a recipe does."""
    config = config_of(folder)
    config.facts()
    config.digest()


def load(folder: Path) -> None:
    """Load the data, and take a batch."""
    import torch

    config_of(folder).load().split("train").batch(torch.arange(2))


def laid(
    prepare: Prepare, told: str, source: str = "own", act: Callable[[Path], object] = load, code: int = 2
) -> Attack:
    """Return an attack by what lies in the folder beside what is good."""
    return Attack(source, both(files(GOOD), prepare), act, told, code, "RecipeError" if code else "")


def instead(name: str, make: Callable[[str], Prepare]) -> Prepare:
    """Return what puts something else in the place of a file."""
    return both(lambda folder: (folder / name).unlink(), make(name))


def said(changes: Mapping[str, Any], told: str, source: str = "own", code: int = 2) -> Attack:
    """Return an attack by parts of tokenizer.json."""
    return laid(
        files({"tokenizer/tokenizer.json": json.dumps({**TOKENIZER, **changes})}), told, source, code=code
    )


def model(**changes: Any) -> dict[str, Any]:
    """Return the model of the tokenizer with changes."""
    return {"model": {**TOKENIZER["model"], **changes}}


def to_device(name: str) -> Prepare:
    """Return what makes a link to a device that never ends."""
    return link(name, "/dev/zero")


JSON, SETTINGS, TEXT = "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json", "sentences.txt"
NONE = "is no tokenizer"
ATTACKS: dict[str, Attack] = {
    # what is no file, or very much
    "sentences that are a pipe": laid(instead(TEXT, pipe), "is no file", "cwe-67", plan),
    "sentences that are a device": laid(instead(TEXT, to_device), "is no file", "cwe-67", plan),
    "sentences of a terabyte": laid(instead(TEXT, hole), "is larger than 256 MiB", "cwe-770", plan),
    "sentences of a terabyte, loaded": laid(instead(TEXT, hole), "is larger than 256 MiB", "cwe-770"),
    "sentences of bytes": laid(files({TEXT: b"a\n\xff\xfe\n"}), "line 2 is not UTF-8"),
    "sentences of half a surrogate pair": laid(files({TEXT: b"a\n\xed\xa0\x80\n"}), "line 2 is not UTF-8"),
    "a tokenizer that is a pipe": laid(instead(JSON, pipe), "has no tokenizer.json", "cwe-67", plan),
    "a tokenizer that is a device": laid(instead(JSON, to_device), "has no tokenizer.json", "cwe-67", plan),
    "a tokenizer of a terabyte": laid(instead(JSON, hole), "is larger than 64 MiB", "cwe-770", plan),
    "a tokenizer of a terabyte, loaded": laid(instead(JSON, hole), "is larger than 64 MiB", "cwe-770"),
    "settings that are a pipe": laid(instead(SETTINGS, pipe), "no plain file", "cwe-67", plan),
    "settings that are a device": laid(instead(SETTINGS, to_device), "no plain file", "cwe-67", plan),
    "settings of a terabyte": laid(instead(SETTINGS, hole), "it is larger than", "cwe-770", plan),
    # the padding token
    "settings nested too deep": laid(files({SETTINGS: "[" * 200_000}), "is no JSON", "cwe-674", plan),
    "a tokenizer nested too deep": laid(files({JSON: "[" * 200_000}), "is no JSON", "cwe-674", plan),
    "settings that are a list": laid(files({SETTINGS: "[]"}), "name no padding token", act=plan),
    "a padding token that is a list": laid(
        files({SETTINGS: '{"pad_token": ["x"]}'}), "name no padding token", act=plan
    ),
    "a padding token with escapes": laid(
        files({SETTINGS: json.dumps({"pad_token": ESCAPES})}), r"has no token '\x1b[2J", "cwe-150"
    ),
    "a padding token of half a surrogate pair": laid(
        files({SETTINGS: r'{"pad_token": "\ud800"}'}), "is no tokenizer", "fuzz"
    ),
    "a padding token of a million letters": laid(
        files({SETTINGS: json.dumps({"pad_token": "x" * 1_000_000})}), "xxx…' to fill up"
    ),
    # the tokenizer
    "a tokenizer that is a pickle": laid(
        files({JSON: b"\x80\x04cos\nsystem\n."}), "is no JSON", "python-pickle", plan
    ),
    "a model that does not exist": said({"model": {"type": "Evil", "vocab": {}}}, NONE),
    "a model without its unknown token": said(model(unk_token="x"), NONE),
    "a token beyond 32 bits": said(model(vocab={"[PAD]": 2**40}), NONE),
    "a token below zero": said(model(vocab={"[PAD]": -1}), NONE),
    "merges of nothing": said(
        {"model": {"type": "BPE", "vocab": {"[PAD]": 0, "a": 1}, "merges": ["a zz"]}}, NONE
    ),
    "an unknown token beyond": said(
        {"model": {"type": "Unigram", "unk_id": 99, "vocab": [["[PAD]", 0.0]]}}, NONE
    ),
    "pieces of no length": said({"pre_tokenizer": {"type": "FixedLength", "length": 0}}, NONE, "rust-panic"),
    "a template of what is not there": said(
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}],
                "pair": [],
                "special_tokens": {},
            }
        },
        NONE,
        "rust-panic",
    ),
    "a table of characters that is cut off": said(
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "BAAAAP////8="}}, NONE, "rust-panic"
    ),
    "an empty table of characters": said(
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAAAAAA"}}, NONE, "rust-panic"
    ),
    "an expression that is none": said(
        {
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": "(a"},
                "behavior": "Removed",
                "invert": False,
            }
        },
        NONE,
    ),
    "a decoder that does not exist": said({"decoder": {"type": "Evil"}}, NONE),
    "a tokenizer with code": said({"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}, NONE, "hub-code"),
    "padding to very much": said(
        {"padding": {**PADDING, "strategy": {"Fixed": 2**40}, "pad_to_multiple_of": 2**40}}, "", "cwe-770", 0
    ),
    "cut off at nothing": said(
        {"truncation": {"max_length": 0, "strategy": "LongestFirst", "stride": 9, "direction": "Left"}},
        "",
        code=0,
    ),
}
