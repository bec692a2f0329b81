"""Handwritten digits: the 1,797 images of 8x8 pixels that come with scikit-learn, resized.

    data: {type: digits, image_size: 16, batch_size: 64}

The splits are fixed: 1,097 train (256 of them also calibration), 200 validation, 500 test samples, each
with the classes in the proportions of the whole.

Source: Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits" (UCI), the test half.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from mcomp.data.contract import DataConfig, DataFacts, Serving, SplitName
from mcomp.data.digests import content_digest
from mcomp.errors import RecipeError
from mcomp_stages.data.packaged import packaged

if TYPE_CHECKING:
    from torch import Tensor

    from mcomp.data.splits import Splits

NUM_SAMPLES, NUM_PIXELS, NUM_CLASSES = 1797, 64, 10
INK = 16  # the most that a pixel has
SPLIT_SIZES = {"test": 500, "validation": 200}
CALIBRATION_SIZE = 256
SPLIT_SEED = 0  # not the recipe's: every recipe is measured on the same samples


class DigitsConfig(DataConfig):
    """Inputs `image` (N, 1, image_size, image_size), normalised as the training split is."""

    type: Literal["digits"] = "digits"
    image_size: Annotated[int, Field(ge=8, le=256, description="pixels a side, from 8, bilinear")] = 16

    def facts(self) -> DataFacts:
        digits_file()
        return DataFacts(channels=1, image_size=self.image_size, num_classes=NUM_CLASSES)

    def digest(self) -> str:
        return content_digest(digits_file())

    def load(self) -> Splits:
        from mcomp.data.splits import Splits, TensorSplit

        images, labels = read_digits(digits_file())
        parts = split_positions(labels)
        images, mean, deviation = prepared(images, self.image_size, parts["train"])
        return Splits(
            {name: TensorSplit(at, {"image": images[at]}, labels[at]) for name, at in parts.items()},
            {"mean": [mean / INK], "std": [deviation / INK]},
        )

    def serving(self, facts: Mapping[str, Any]) -> Serving | None:
        """An image file in gray: white ink on black, as the digits are."""
        return Serving.image(facts, self.image_size, 1, "squash")


def digits_file() -> Path:
    """Return where scikit-learn keeps the images, without importing it. Raises RecipeError."""
    return packaged("sklearn", "datasets/data/digits.csv.gz", "pip install scikit-learn")


def read_digits(path: Path) -> tuple[Tensor, Tensor]:
    """Return images (N, 1, 8, 8) in float and labels (N,). Raises RecipeError for another file."""
    import numpy as np
    import torch

    try:
        with gzip.open(path, "rt") as lines:
            table = np.loadtxt(lines, delimiter=",", dtype=np.int64)
    except (OSError, EOFError, ValueError) as error:
        raise RecipeError(f"digits: {path} cannot be read ({error}); reinstall scikit-learn") from error
    if table.shape != (NUM_SAMPLES, NUM_PIXELS + 1):
        raise RecipeError(
            f"digits: {path} holds a table {table.shape}, not {NUM_SAMPLES} images; reinstall scikit-learn"
        )
    images = torch.from_numpy(table[:, :NUM_PIXELS]).float().reshape(-1, 1, 8, 8)
    return images, torch.from_numpy(table[:, NUM_PIXELS].copy())


def split_positions(labels: Tensor) -> dict[SplitName, Tensor]:
    """Return the positions of each split's samples; `calibration` is a part of `train`."""
    import torch

    from mcomp.data.splits import stratified_parts

    generator = torch.Generator().manual_seed(SPLIT_SEED)
    parts = stratified_parts(labels, SPLIT_SIZES, generator)
    train = parts["rest"]
    calibration = stratified_parts(labels[train], {"calibration": CALIBRATION_SIZE}, generator)["calibration"]
    return {
        "train": train,
        "calibration": train[calibration],
        "validation": parts["validation"],
        "test": parts["test"],
    }


def prepared(images: Tensor, image_size: int, train: Tensor) -> tuple[Tensor, float, float]:
    """Return the images resized and normalised, with the training images' mean and deviation."""
    from torch.nn.functional import interpolate

    resized = interpolate(images, size=(image_size, image_size), mode="bilinear", align_corners=False)
    deviation, mean = resized[train].std(), resized[train].mean()
    return (resized - mean) / deviation, mean.item(), deviation.item()
