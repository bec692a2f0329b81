from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mcomp.data.contract import DataFacts
from mcomp.data.splits import Splits
from mcomp.errors import RecipeError
from mcomp_stages.data import elpv
from mcomp_stages.data.elpv import ElpvConfig

NAMES = ("train", "calibration", "validation", "test")
PROBABILITIES = ("0.0", "0.3333333333333333", "0.6666666666666666", "1.0")
NUM_CELLS = 64
FIELDS = {"image_size": 16, "calibration": 8, "splits": {"validation": 0.25, "test": 0.25}}


def cell(number: int) -> tuple[str, str]:
    """Return the probability and the kind of a cell: each of the eight combinations equally often."""
    return PROBABILITIES[number % 4], ("mono", "poly")[number // 4 % 2]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a package like the real one, with few and small photographs, and return its folder of data."""
    data = tmp_path / "elpv_dataset" / "data"
    (data / "images").mkdir(parents=True)
    (data.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    lines = []
    for number in range(NUM_CELLS):
        gray = np.full((20, 20), number, np.uint8)
        gray[:10] += 100
        Image.fromarray(gray).save(data / "images" / f"cell{number:04}.png")
        lines.append("images/cell{:04}.png  {}    {}".format(number, *cell(number)))
    (data / "labels.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    return data


def load(**fields: Any) -> Splits:
    return ElpvConfig.model_validate({"type": "elpv", **FIELDS, **fields}).load()


def everything(data: Splits, name: Any) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    split = data.split(name)
    batch = split.batch(torch.arange(len(split)))
    return batch.indices.tolist(), batch.inputs["image"], batch.target


def test_every_split_has_probabilities_and_kinds_in_proportion(package: Path) -> None:
    data = load()
    for name, of_each in zip(NAMES, (4, 1, 2, 2), strict=True):
        count = Counter(cell(index) for index in everything(data, name)[0])
        assert set(count.values()) == {of_each}
        assert len(count) == 8


def test_splits_do_not_overlap_and_another_seed_deals_anew(package: Path) -> None:
    parts = {name: set(everything(load(), name)[0]) for name in NAMES}
    assert parts["calibration"] < parts["train"]
    assert sum(len(parts[name]) for name in ("train", "validation", "test")) == NUM_CELLS
    other = load(splits={"validation": 0.25, "test": 0.25, "seed": 1})
    assert set(everything(other, "test")[0]) != parts["test"]


@pytest.mark.parametrize(
    ("threshold", "defective"), [(0.5, (2, 3)), (1 / 3, (1, 2, 3)), (0.3333333333, (1, 2, 3)), (1.0, (3,))]
)
def test_a_cell_is_defective_from_the_threshold_on(
    threshold: float, defective: tuple[int, ...], package: Path
) -> None:
    indices, _, target = everything(load(threshold=threshold), "test")
    assert target.tolist() == [int(index % 4 in defective) for index in indices]


def test_soft_labels_are_the_probabilities_and_only_in_training(package: Path) -> None:
    data = load(labels="soft")
    indices, _, target = everything(data, "train")
    expected = [[1 - float(PROBABILITIES[index % 4]), float(PROBABILITIES[index % 4])] for index in indices]
    assert torch.allclose(target, torch.tensor(expected))
    assert everything(data, "validation")[2].dtype == torch.int64


def test_images_are_those_of_the_package_normalised_as_in_training(package: Path) -> None:
    data = load(image_size=20)
    _, image, _ = everything(data, "train")
    assert image.mean().item() == pytest.approx(0, abs=1e-5)
    indices, image, _ = everything(data, "test")
    pixels = (image * data.facts["std"][0] + data.facts["mean"][0]) * 255
    assert image.shape[1:] == (1, 20, 20)
    assert torch.allclose(pixels[:, 0, 0, 0], torch.tensor(indices) + 100.0, atol=1e-3)
    assert torch.allclose(pixels[:, 0, -1, 0], torch.tensor(indices).float(), atol=1e-3)
    assert data.facts["classes"] == ["intact", "defective"]


def test_only_training_images_are_augmented(package: Path) -> None:
    data = load(augment={"flip": "both", "transpose": True})
    assert [data.split(name).augmented for name in NAMES] == [True, False, False, False]


def test_facts_need_no_files() -> None:
    assert ElpvConfig().facts() == DataFacts(channels=1, image_size=96, num_classes=2)


def test_digest_follows_labels_and_images(package: Path) -> None:
    digests = {ElpvConfig().digest()}
    Image.new("L", (20, 20)).save(package / "images" / "cell0003.png")
    digests.add(ElpvConfig().digest())
    labels = package / "labels.csv"
    labels.write_text(labels.read_text().replace("1.0", "0.0", 1))
    digests.add(ElpvConfig().digest())
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "not the list of the package"),
        ("images/cell0001.png 1.0", "is broken"),
        ("images/cell0001.png high mono", "is broken"),
        ("images/cell0001.png 1.5 mono", "not the list of the package"),
        ("images/cell0001.png 1.0 round", "not the list of the package"),
        (None, "cannot be read"),
    ],
)
def test_a_broken_list_is_a_recipe_error(content: str | None, what: str, package: Path) -> None:
    (package / "labels.csv").unlink()
    if content is not None:
        (package / "labels.csv").write_text(content)
    with pytest.raises(RecipeError, match=what):
        load()


def test_broken_images_are_named(package: Path) -> None:
    (package / "images" / "cell0005.png").write_bytes(b"no picture")
    with pytest.raises(RecipeError, match=r"cell0005\.png"):
        load()


def test_shares_that_leave_too_few_are_refused(package: Path) -> None:
    with pytest.raises(RecipeError, match="leave 32 images of 64 to train, 256 of them to calibrate"):
        load(calibration=256)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: str) -> Path:
        raise RecipeError("comes with a package")

    monkeypatch.setattr(elpv, "packaged", missing)
    with pytest.raises(RecipeError, match="comes with a package"):
        ElpvConfig().digest()
