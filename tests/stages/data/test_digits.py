from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from mcomp.data.contract import DataFacts
from mcomp.errors import RecipeError
from mcomp_stages.data import digits
from mcomp_stages.data.digits import DigitsConfig


def test_splits_have_their_sizes_and_do_not_overlap() -> None:
    data = DigitsConfig().load()
    names = ("train", "calibration", "validation", "test")
    train, calibration, validation, test = (set(data.split(name).indices.tolist()) for name in names)
    assert [len(part) for part in (train, calibration, validation, test)] == [1097, 256, 200, 500]
    assert calibration < train
    assert len(train | validation | test) == 1797


def test_every_split_has_the_classes_in_proportion() -> None:
    data = DigitsConfig().load()
    for name in ("train", "calibration", "validation", "test"):
        target = data.split(name).target
        shares = target.bincount(minlength=10) / len(target)
        assert shares.min() > 0.08
        assert shares.max() < 0.12


def test_images_are_those_of_scikit_learn() -> None:
    known = load_digits()
    split = DigitsConfig(image_size=8).load().split("test")
    batch = split.batch(torch.arange(len(split)))
    pixels = torch.from_numpy(known.images[batch.indices.numpy()]).float()
    assert batch.target.tolist() == known.target[batch.indices.numpy()].tolist()
    image = batch.inputs["image"][:, 0]
    slope = (image.max() - image.min()) / (pixels.max() - pixels.min())
    assert torch.allclose(image, image.min() + slope * pixels, atol=1e-5)


def test_training_images_are_normalised_and_have_the_size_asked_for() -> None:
    image = DigitsConfig(image_size=20).load().split("train").inputs["image"]
    assert image.shape == (1097, 1, 20, 20)
    assert image.mean().item() == pytest.approx(0, abs=1e-4)
    assert image.std().item() == pytest.approx(1, abs=1e-4)


def test_splits_do_not_depend_on_the_global_generator() -> None:
    torch.manual_seed(1)
    first = DigitsConfig().load().split("test").indices
    torch.manual_seed(2)
    assert torch.equal(DigitsConfig().load().split("test").indices, first)


def test_facts_are_what_models_ask_for() -> None:
    assert DigitsConfig(image_size=24).facts() == DataFacts(channels=1, image_size=24, num_classes=10)


def test_facts_and_digest_import_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import sys; from mcomp_stages.data.digits import DigitsConfig; config = DigitsConfig();"
        "config.facts(); print(config.digest(), 'torch' in sys.modules, 'sklearn' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.split() == [DigitsConfig().digest(), "False", "False"]


def test_digest_follows_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "digits.csv.gz"
    monkeypatch.setattr(digits, "digits_file", lambda: file)
    file.write_bytes(b"one")
    first = DigitsConfig().digest()
    file.write_bytes(b"two")
    assert DigitsConfig().digest() != first


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"not gzip", "cannot be read"),
        (gzip.compress(b"1,2,x\n", mtime=0), "cannot be read"),
        (gzip.compress(b"1,2,3\n" * 1797, mtime=0), "not 1797 images"),
        (gzip.compress(b"1,2,3\n" * 99, mtime=0)[:-9], "cannot be read"),
    ],
)
def test_a_broken_file_is_a_recipe_error(
    content: bytes, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "digits.csv.gz"
    file.write_bytes(content)
    monkeypatch.setattr(digits, "digits_file", lambda: file)
    with pytest.raises(RecipeError, match=what):
        DigitsConfig().load()
