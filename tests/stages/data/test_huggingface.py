from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from mcomp.errors import RecipeError
from mcomp_stages.data.huggingface import HuggingFaceConfig
from mcomp_stages.data.image_file import read_image
from tests.stages.data.pictures import gradient
from tests.stages.data.words import SENTENCES, word_tokenizer

NAMES = ["bad", "fine"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    word_tokenizer(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def reviews(number: int, start: int = 0) -> datasets.Dataset:
    texts = [SENTENCES[at % len(SENTENCES)] for at in range(start, start + number)]
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=NAMES)}
    )
    return datasets.Dataset.from_dict({"text": texts, "label": [at % 2 for at in range(number)]}, features)


def of_texts(path: Path, tokenizer: Path, **fields: Any) -> HuggingFaceConfig:
    plain = {"type": "huggingface", "path": path, "text": "text", "label": "label", "tokenizer": tokenizer}
    return HuggingFaceConfig.model_validate({**plain, "calibration": 4, **fields})


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def written(table: datasets.Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)
    return path


def test_splits_are_the_files_of_a_folder(tmp_path: Path, tokenizer: Path) -> None:
    for name, number in (("train", 12), ("dev", 6), ("test", 5)):
        written(reviews(number), tmp_path / "data" / f"{name}.parquet")
    config = of_texts(tmp_path / "data", tokenizer)
    facts, data = config.facts(), config.load()
    assert (facts.num_classes, facts.class_counts, facts.labelled) == (2, (6, 6), True)
    assert facts.varying["input_ids"][1].largest == 128
    lengths = {name: len(data.split(name)) for name in ("train", "calibration", "validation", "test")}
    assert lengths == {"train": 12, "calibration": 4, "validation": 6, "test": 5}
    assert data.facts["classes"] == NAMES
    batch = data.split("validation").batch(torch.tensor([1, 0]))
    assert set(batch.inputs) == {"input_ids", "attention_mask"}
    assert batch.target.tolist() == [1, 0]
    assert batch.indices.tolist() == [13, 12]  # behind train's


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_single_file_is_shared_out_and_rows_keep_their_split(
    suffix: str, tmp_path: Path, tokenizer: Path
) -> None:
    path, table = tmp_path / f"all{suffix}", reviews(60)
    {".parquet": table.to_parquet, ".csv": table.to_csv, ".jsonl": table.to_json}[suffix](path)
    data = of_texts(path, tokenizer).load()
    found = {name: {int(i) for i in whole(data, name).indices} for name in ("train", "validation", "test")}
    assert sorted(index for each in found.values() for index in each) == list(range(60))
    assert min(map(len, found.values())) > 1
    fewer = of_texts(written(reviews(50), tmp_path / "fewer.parquet"), tokenizer).load()
    for name, indices in found.items():
        assert {int(i) for i in whole(fewer, name).indices} == {index for index in indices if index < 50}
    assert whole(data, "train").target.tolist() == [index % 2 for index in sorted(found["train"])]


def whole(data: Any, name: str) -> Any:
    split = data.split(name)
    return split.batch(torch.arange(len(split)))


def test_what_save_to_disk_wrote_is_read(tmp_path: Path, tokenizer: Path) -> None:
    parts = datasets.DatasetDict({"train": reviews(40), "validation": reviews(4)})
    parts.save_to_disk(tmp_path / "saved")
    config = of_texts(tmp_path / "saved", tokenizer)
    data, digest = config.load(), config.digest()
    assert len(data.split("validation")) == 4
    assert len(data.split("train")) + len(data.split("test")) == 40
    datasets.DatasetDict({"train": reviews(40, 1), "validation": reviews(4)}).save_to_disk(tmp_path / "other")
    assert of_texts(tmp_path / "other", tokenizer).digest() != digest
    assert of_texts(tmp_path / "saved", tokenizer).digest() == digest


def test_classes_may_be_names_or_numbers_and_may_be_missing(tmp_path: Path, tokenizer: Path) -> None:
    texts = list(SENTENCES[:36])
    named = datasets.Dataset.from_dict({"text": texts, "label": ["b", "a", "c"] * 12})
    config = of_texts(written(named, tmp_path / "named.parquet"), tokenizer)
    assert config.facts().num_classes == 3
    assert config.load().facts["classes"] == ["a", "b", "c"]
    bare = of_texts(tmp_path / "named.parquet", tokenizer, label=None)
    assert (bare.facts().labelled, bare.facts().num_classes) == (False, None)
    assert whole(bare.load(), "train").target.shape[1:] == (0,)


MODES = {
    "gray": Image.fromarray(torch.arange(256, dtype=torch.uint8).view(16, 16).numpy()),
    "color": gradient(20, 12),
    "alpha": gradient(12, 12).convert("RGBA"),
    "16 bit": Image.fromarray((torch.arange(256).view(16, 16) * 257).to(torch.uint16).numpy()),
}


def test_images_are_read_as_image_folder_reads_files(tmp_path: Path) -> None:
    pictures = [*MODES.values()] * 12
    table = datasets.Dataset.from_dict({"image": [{"bytes": png(each), "path": None} for each in pictures]})
    table = table.cast_column("image", datasets.Image())
    path = written(table, tmp_path / "images.parquet")
    normalize = {"mean": [0.0] * 3, "std": [1.0] * 3}
    fields = {"type": "huggingface", "path": path, "image": "image", "image_size": 8, "calibration": 2}
    config = HuggingFaceConfig.model_validate({**fields, "normalize": normalize})
    assert config.facts().channels == 3
    batch = whole(config.load(), "train")
    for index, image in zip(batch.indices.tolist(), batch.inputs["image"], strict=True):
        (tmp_path / "one.png").write_bytes(png(pictures[index]))
        expected = torch.from_numpy(read_image(tmp_path / "one.png", 8, 3, "crop")).permute(2, 0, 1) / 255
        assert torch.allclose(image, expected)
    measured = HuggingFaceConfig.model_validate(fields).load()
    assert whole(measured, "train").inputs["image"].mean().abs() < 1e-5


def test_a_broken_image_is_told_with_its_row(tmp_path: Path) -> None:
    contents = [png(gradient(9, 9))] * 39
    contents.insert(7, png(gradient(9, 9))[:60])
    path = written(
        datasets.Dataset.from_dict({"image": contents, "label": [0, 1] * 20}), tmp_path / "images.parquet"
    )
    fields = {"type": "huggingface", "path": path, "image": "image", "label": "label", "image_size": 8}
    with pytest.raises(RecipeError, match="train: row 7 of image: cannot be decoded"):
        HuggingFaceConfig.model_validate(fields).load()
    with pytest.raises(RecipeError, match="holds no image"):
        HuggingFaceConfig.model_validate({**fields, "image": "label", "label": None}).load()


WRONG: dict[str, tuple[Mapping[str, Any], Mapping[str, Any], str]] = {
    "a label out of range": ({"label": [0, 1, 7, 1] * 12}, {}, "train has no sample of class 2"),
    "no label": (
        {"label": [0, 1, -1, 1] * 12},
        {},
        "train has the label -1 in row 2, and train has no such class",
    ),
    "a measure": ({"label": [0.5, 1.0, 0.1, 0.2] * 12}, {}, "holds no classes, but float"),
    "another column": ({}, {"label": "labels"}, "train has no column labels; did you mean 'label'"),
    "no text": ({"text": ["a", None, "b", "c"] * 12}, {}, "train has no text in row 1 of text, but NoneType"),
    "a share of what is there": ({}, {"split_names": {"test": "nothing"}}, "has no split nothing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_told_with_its_place(case: str, tmp_path: Path, tokenizer: Path) -> None:
    columns, fields, told = WRONG[case]
    plain = {"text": ["a word"] * 48, "label": [0, 1] * 24}
    written(datasets.Dataset.from_dict({**plain, **columns}), tmp_path / "data" / "train.parquet")
    with pytest.raises(RecipeError, match=told):
        of_texts(tmp_path / "data", tokenizer, **fields).load()


def test_files_that_are_none_are_told(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match=r"holds no table; known are \.parquet"):
        of_texts(tmp_path / "empty", tokenizer).facts()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(RecipeError, match=r"broken\.parquet cannot be read"):
        of_texts(tmp_path / "broken.parquet", tokenizer).facts()
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "state.json").write_text("{")
    with pytest.raises(RecipeError, match="saved cannot be read"):
        of_texts(tmp_path / "saved", tokenizer).facts()


def test_a_hub_that_cannot_be_reached_says_how_to_use_a_copy(
    monkeypatch: pytest.MonkeyPatch, tokenizer: Path
) -> None:
    def unreachable(*asked: object, **how: object) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    fields = {"type": "huggingface", "hub": "some/reviews", "text": "text", "tokenizer": tokenizer}
    told = "could not be had from the Hugging Face hub: Couldn't reach the Hub; copy its Parquet files"
    with pytest.raises(RecipeError, match=told):
        HuggingFaceConfig.model_validate(fields).facts()


def test_the_hub_gives_the_splits_that_it_has(
    monkeypatch: pytest.MonkeyPatch, tokenizer: Path, tmp_path: Path
) -> None:
    reviews(40).save_to_disk(tmp_path / "cache")
    cached = datasets.load_from_disk(str(tmp_path / "cache"))
    monkeypatch.setattr(datasets, "load_dataset", lambda *asked, **how: {"train": cached, "test": cached})
    fields = {"type": "huggingface", "hub": "some/reviews", "text": "text", "tokenizer": tokenizer}
    config = HuggingFaceConfig.model_validate({**fields, "calibration": 2})
    assert len(config.load().split("test")) == 40
    assert len(config.digest()) == 64


OPEN = {"type": "huggingface", "text": "text"}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"hub": "some/reviews"}, "needs one of path and hub"),
        ({"image": "image"}, "needs one of image and text"),
        ({"text": None, "image": "image"}, "images need image_size"),
        ({"tokenizer": None}, "texts need a tokenizer"),
    ],
)
def test_what_leaves_the_data_open_is_refused(fields: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=told):
        HuggingFaceConfig.model_validate({**OPEN, "tokenizer": tmp_path, "path": tmp_path, **fields})
