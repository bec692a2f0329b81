from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from mcomp.data.contract import VaryingSize
from mcomp.errors import RecipeError
from mcomp_stages.data.sentences import SentencesConfig
from tests.stages.data.words import SENTENCES, slow_tokens, word_tokenizer

NAMES = ("train", "calibration", "validation", "test")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "sentences.txt").write_text("\n".join(SENTENCES), encoding="utf-8")
    return {"path": tmp_path / "sentences.txt", "tokenizer": word_tokenizer(tmp_path / "tokenizer")}


def config(files: dict[str, Path], **fields: Any) -> SentencesConfig:
    return SentencesConfig.model_validate({"type": "sentences", **files, **fields})


@pytest.mark.parametrize("max_length", [4, 128])
def test_tokens_are_those_of_the_words_cut_at_the_longest_that_is_allowed(
    max_length: int, files: dict[str, Path]
) -> None:
    data = config(files, max_length=max_length).load()
    for name in NAMES:
        split = data.split(name)
        batch = split.batch(torch.arange(len(split)))
        for index, ids, mask in zip(batch.indices, *batch.inputs.values(), strict=True):
            expected = slow_tokens(SENTENCES[index], max_length)
            assert ids[mask.bool()].tolist() == expected
            assert ids[~mask.bool()].tolist() == [0] * (len(ids) - len(expected))
            assert mask.tolist() == sorted(mask.tolist(), reverse=True)


def test_a_batch_is_as_long_as_its_longest_sentence(files: dict[str, Path]) -> None:
    split = config(files).load().split("train")
    for positions in torch.arange(len(split)).split(3):
        batch = split.batch(positions)
        longest = max(len(SENTENCES[index].split()) for index in batch.indices) + 2
        assert batch.inputs["input_ids"].shape == (len(positions), longest)


def test_every_batch_can_have_one_length(files: dict[str, Path]) -> None:
    padded = config(files, padding="max_length", max_length=16)
    assert padded.load().split("test").batch(torch.arange(2)).inputs["input_ids"].shape == (2, 16)
    assert padded.facts().varying == {}


def test_the_length_varies_up_to_the_longest_that_is_allowed(files: dict[str, Path]) -> None:
    length = {1: VaryingSize("sequence", 16)}
    facts = config(files, max_length=16, inputs=["input_ids", "token_type_ids"]).facts()
    assert facts.varying == {"input_ids": length, "token_type_ids": length}
    assert not facts.labelled


def test_inputs_are_those_that_are_named_as_integers(files: dict[str, Path]) -> None:
    named = ["input_ids", "attention_mask", "token_type_ids"]
    batch = config(files, inputs=named).load().split("test").batch(torch.tensor([1, 0]))
    assert list(batch.inputs) == named
    assert {value.dtype for value in batch.inputs.values()} == {torch.int64}
    assert not batch.inputs["token_type_ids"].any()
    assert batch.target.shape == (2, 0)


def test_splits_do_not_overlap_and_calibration_is_a_part_of_train(files: dict[str, Path]) -> None:
    data = config(files, calibration=5, splits={"validation": 0.2, "test": 0.2}).load()
    parts = {
        name: set(data.split(name).batch(torch.arange(len(data.split(name)))).indices.tolist())
        for name in NAMES
    }
    assert sum(len(parts[name]) for name in ("train", "validation", "test")) == len(SENTENCES)
    assert set.union(*parts.values()) == set(range(len(SENTENCES)))
    assert parts["calibration"] < parts["train"]
    assert len(parts["calibration"]) == 5


def test_equal_sentences_are_in_one_split_and_blank_lines_are_none(files: dict[str, Path]) -> None:
    files["path"].write_text("\n\n".join(f"  {line}\r" for line in (*SENTENCES, *SENTENCES)))
    data = config(files).load()
    found: dict[str, set[str]] = {}
    for name in ("train", "validation", "test"):
        split = data.split(name)
        for index in split.batch(torch.arange(len(split))).indices.tolist():
            found.setdefault(SENTENCES[index % len(SENTENCES)], set()).add(name)
    assert found.keys() == set(SENTENCES)
    assert all(len(splits) == 1 for splits in found.values())


def test_facts_and_digest_import_neither_torch_nor_tokenizers(files: dict[str, Path]) -> None:
    code = (
        "import sys; from mcomp_stages.data.sentences import SentencesConfig;"
        "config = SentencesConfig(path=sys.argv[1], tokenizer=sys.argv[2]); config.facts();"
        "print(config.digest(), 'torch' in sys.modules, 'tokenizers' in sys.modules)"
    )
    command = [sys.executable, "-c", code, *map(str, files.values())]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said.split() == [config(files).digest(), "False", "False"]


def test_digest_follows_the_sentences_and_the_tokenizer(files: dict[str, Path]) -> None:
    digests = {config(files).digest()}
    files["path"].write_text("a cat\nthe dog")
    digests.add(config(files).digest())
    tokenizer = files["tokenizer"] / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    digests.add(config(files).digest())
    digests.add(config(files, pad_token="[UNK]").digest())
    assert len(digests) == 4


def test_the_padding_token_is_found_in_every_place(files: dict[str, Path]) -> None:
    settings = files["tokenizer"] / "tokenizer_config.json"
    settings.write_text(json.dumps({"pad_token": {"content": "[UNK]"}}))
    split = config(files, padding="max_length", max_length=32).load().split("test")
    assert split.batch(torch.arange(2)).inputs["input_ids"][:, -1].tolist() == [1, 1]
    settings.rename(files["tokenizer"] / "special_tokens_map.json")
    assert config(files).load().split("test").tokens.pad_id == 1  # type: ignore[attr-defined]


def broken(files: dict[str, Path], name: str, content: bytes) -> dict[str, Path]:
    place = {"path": files["path"], "json": files["tokenizer"] / "tokenizer.json"}
    place |= {"settings": files["tokenizer"] / "tokenizer_config.json"}
    place[name].write_bytes(content)
    return files


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("path", b"a cat\nthe \xff dog", r"line 2 is not UTF-8"),
        ("path", b"", "train gets fewer than 2 sentences"),
        ("path", b"a cat\n", "gets fewer than 2 sentences"),
        ("json", b"{", "is no JSON|is no tokenizer"),
        ("json", b"{}", "is no tokenizer"),
        ("json", b"[" * 100_000, "is no JSON|is no tokenizer"),
        ("settings", b"{", "is no JSON"),
        ("settings", b"{}", "name no padding token; write pad_token"),
        ("settings", b'{"pad_token": "[NONE]"}', r"has no token '\[NONE\]' to fill up with"),
    ],
)
def test_broken_files_are_recipe_errors(name: str, content: bytes, what: str, files: dict[str, Path]) -> None:
    wrong = config(broken(files, name, content))
    with pytest.raises(RecipeError, match=what) as caught:
        (wrong.facts(), wrong.load())
    assert caught.value.problems[0].path in ("path", "tokenizer")


def test_a_folder_without_tokenizer_json_says_how_to_write_one(files: dict[str, Path]) -> None:
    (files["tokenizer"] / "tokenizer.json").unlink()
    with pytest.raises(RecipeError, match=r"has no tokenizer\.json; write it with transformers"):
        config(files).facts()


@pytest.mark.parametrize(
    "wrong",
    [
        {"inputs": []},
        {"inputs": ["attention_mask"]},
        {"inputs": ["input_ids", "input_ids"]},
        {"inputs": ["input_ids", "pixels"]},
        {"max_length": 1},
        {"padding": "none"},
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any], files: dict[str, Path]) -> None:
    with pytest.raises(ValidationError):
        config(files, **wrong)
