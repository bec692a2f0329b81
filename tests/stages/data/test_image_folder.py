from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from mcomp.data.contract import DataFacts
from mcomp.errors import RecipeError
from mcomp.fingerprint import effective
from mcomp_stages.data import image_folder
from mcomp_stages.data.image_folder import ImageFolderConfig
from tests.stages.data.pictures import digits_folder, gradient

NUM_IMAGES = 120


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits_folder(tmp_path_factory.mktemp("digits"), NUM_IMAGES)


def configured(path: Path, **fields: Any) -> ImageFolderConfig:
    return ImageFolderConfig.model_validate({"path": path, "image_size": 8, "channels": 1, **fields})


def everything(config: ImageFolderConfig, split: str = "train", draw: int | None = None) -> torch.Tensor:
    found = config.load().split(split)
    return found.batch(torch.arange(len(found)), draw).inputs["image"]


def test_a_batch_holds_the_pixels_of_its_files_and_their_classes(digits: Path) -> None:
    config = configured(digits)
    data = config.load()
    batch = data.split("test").batch(torch.tensor([3, 0]))
    for index, image, label in zip(batch.indices.tolist(), batch.inputs["image"], batch.target, strict=True):
        name = config.images.names[index]
        with Image.open(digits / name) as file:
            pixels = np.asarray(file) / 255
        normalised = (pixels - data.facts["mean"][0]) / data.facts["std"][0]
        assert torch.allclose(image[0], torch.from_numpy(normalised).float(), atol=1e-5)
        assert data.facts["classes"][label] == name.split("/")[0]


def test_splits_share_out_the_images_and_calibration_is_of_train(digits: Path) -> None:
    data = configured(digits, calibration=30).load()
    names = ("train", "validation", "test", "calibration")
    train, validation, test, calibration = (set(data.split(name).indices.tolist()) for name in names)
    assert len(train) + len(validation) + len(test) == NUM_IMAGES == len(train | validation | test)
    assert calibration < train
    assert data.facts["samples"] == {
        "train": len(train), "validation": len(validation), "test": len(test), "calibration": 30
    }  # fmt: skip


def test_the_training_images_are_normalised_channel_by_channel(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for number in range(20):
            path = tmp_path / label / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            gradient(8 + number, 20).save(path)
    image = everything(configured(tmp_path, channels=3))
    assert torch.allclose(image.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(image.std(dim=(0, 2, 3), correction=0), torch.ones(3), atol=1e-4)


def test_a_given_mean_and_deviation_are_used_and_kept(digits: Path) -> None:
    data = configured(digits, normalize={"mean": [0.5], "std": [0.25]}).load()
    assert (data.facts["mean"], data.facts["std"]) == ([0.5], [0.25])
    image = data.split("train").batch(torch.arange(4)).inputs["image"]
    assert image.min().item() == -2.0


@pytest.mark.parametrize("fields", [{"workers": 3}, {"cache": "none"}, {"cache": "none", "workers": 3}])
def test_threads_and_memory_change_nothing(fields: dict[str, Any], digits: Path) -> None:
    plain, other = configured(digits, augment=AUGMENT), configured(digits, augment=AUGMENT, **fields)
    assert torch.equal(everything(plain, draw=4), everything(other, draw=4))
    assert effective(plain) == effective(other)
    assert plain.load().facts == other.load().facts


AUGMENT = {"flip": "horizontal", "crop_padding": 1}


def test_what_does_not_fit_into_memory_is_decoded_when_it_is_needed(
    digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = everything(configured(digits))
    monkeypatch.setattr(image_folder, "KEPT_BYTES", NUM_IMAGES * 64 - 1)
    given = {"normalize": {"mean": [0.5], "std": [0.25]}}
    monkeypatch.setattr(
        "mcomp_stages.data.image_file.Image.open", lambda *args, **named: pytest.fail("opened")
    )
    configured(digits, **given).load()
    monkeypatch.undo()
    monkeypatch.setattr(image_folder, "KEPT_BYTES", NUM_IMAGES * 64 - 1)
    assert torch.equal(everything(configured(digits)), kept)


def test_only_training_images_are_augmented_and_only_when_they_are_drawn(digits: Path) -> None:
    plain, augmented = configured(digits), configured(digits, augment=AUGMENT)
    assert torch.equal(everything(augmented), everything(plain))
    assert not torch.equal(everything(augmented, draw=1), everything(plain))
    assert torch.equal(everything(augmented, "validation", draw=1), everything(plain, "validation"))
    data = augmented.load()
    assert [data.split(name).augmented for name in ("train", "calibration", "validation", "test")] == [
        True, False, False, False
    ]  # fmt: skip


def test_facts_and_digest_import_neither_torch_nor_pillow(digits: Path) -> None:
    code = (
        "import sys; from mcomp_stages.data.image_folder import ImageFolderConfig;"
        f"config = ImageFolderConfig(path={str(digits)!r}, image_size=8, channels=1);"
        "print(config.facts(), config.digest(), 'torch' in sys.modules, 'PIL' in sys.modules, sep='|')"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    facts = configured(digits).facts()
    train = configured(digits).load().split("train")
    counts = torch.bincount(train.batch(torch.arange(len(train))).target).tolist()
    assert facts == DataFacts(channels=1, image_size=8, num_classes=10, class_counts=tuple(counts))
    assert said.strip().split("|") == [str(facts), configured(digits).digest(), "False", "False"]


def test_the_digest_follows_the_files_and_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits_folder(tmp_path, NUM_IMAGES)
    first = configured(tmp_path).digest()
    assert configured(tmp_path).digest() == first
    gradient(8, 8).save(tmp_path / "0" / "new.png")
    second = configured(tmp_path).digest()
    monkeypatch.setattr(image_folder, "version", lambda name: "0.0")
    assert len({first, second, configured(tmp_path).digest()}) == 3


def test_every_broken_file_is_named_before_anything_starts(tmp_path: Path) -> None:
    digits_folder(tmp_path, NUM_IMAGES)
    broken = [tmp_path / "3" / "a.png", tmp_path / "7" / "b.jpg"]
    for path in broken:
        path.write_bytes(b"broken")
    with pytest.raises(RecipeError) as caught:
        configured(tmp_path).load()
    assert [problem.where for problem in caught.value.problems] == list(map(str, broken))


def test_images_that_are_all_alike_are_refused(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for number in range(20):
            (tmp_path / label).mkdir(exist_ok=True)
            Image.new("L", (8, 8), 7).save(tmp_path / label / f"{number}.png")
    with pytest.raises(RecipeError, match="the same in all training images"):
        configured(tmp_path).load()


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"normalize": {"mean": [0.5, 0.5, 0.5], "std": [0.2]}}, "as many means and deviations as channels"),
        ({"normalize": {"mean": [0.5], "std": [0.0]}}, "greater than 0"),
        ({"channels": 4}, "1 or 3"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], what: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=what):
        configured(tmp_path, **fields)
