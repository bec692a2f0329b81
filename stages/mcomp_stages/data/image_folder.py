"""Your own images: a folder for each class.

    data:
      type: image_folder
      path: images               # images/cat/1.png, images/dog/2.jpg: classes are numbered by sorted name
      image_size: 32
      channels: 3
      splits: {validation: 0.15, test: 0.15}
      augment: {flip: horizontal, crop_padding: 4}

If there are folders `train`, `validation` (or `val`) and `test` with the classes inside, they are the
splits. A split without a folder takes its share of train: which images, their names decide, so that a new
image moves no other. `calibration` images of train, from all over it, are the calibration split.

Every image is turned upright by its EXIF orientation, resized with antialiasing, and normalised channel by
channel: by `normalize`, or as the training images are. What was used is kept with every result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from mcomp.config import Config, no_effect
from mcomp.data.augment import Augment
from mcomp.data.contract import DataConfig, DataFacts, Serving, SplitName
from mcomp.data.fractions import Fractions, spread
from mcomp.errors import RecipeError
from mcomp.fingerprint import fingerprint
from mcomp.recipe.files import NamedPath
from mcomp_stages.data.class_folders import Images, find_images

if TYPE_CHECKING:
    from torch import Tensor

    from mcomp.data.splits import Splits
    from mcomp_stages.data.image_split import Pixels

KEPT_BYTES = 2 * 2**30


class Normalize(Config):
    """What is subtracted from each channel and what it is divided by; pixels go from 0 to 1."""

    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]


class ImageFolderConfig(DataConfig):
    """Inputs `image` (N, channels, image_size, image_size); targets are the positions of the classes."""

    type: Literal["image_folder"] = "image_folder"
    path: NamedPath = no_effect(description="the folder, relative to the recipe")
    image_size: Annotated[int, Field(ge=4, le=2048, description="pixels a side")]
    channels: Annotated[Literal[1, 3], Field(description="1: gray, 3: color")] = 3
    fit: Annotated[
        Literal["crop", "squash"],
        Field(description="cut out the centre square, or squash the whole into one"),
    ] = "crop"
    splits: Fractions = Fractions()
    calibration: Annotated[int, Field(ge=2, description="images of train that quantizers are set by")] = 256
    normalize: Annotated[Normalize | None, Field(description="default: as the training images are")] = None
    augment: Augment = Augment()
    cache: Literal["memory", "none"] = no_effect(
        default="memory", description="keep decoded images if they need less than 2 GiB"
    )
    workers: int = no_effect(
        default=1, ge=1, le=64, description="threads that decode; more than 1 pays for photographs"
    )

    @model_validator(mode="after")
    def normalizes_every_channel(self) -> ImageFolderConfig:
        """Refuse a mean or a deviation that does not fit the channels."""
        if self.normalize and {len(self.normalize.mean), len(self.normalize.std)} != {self.channels}:
            raise ValueError(f"normalize needs as many means and deviations as channels ({self.channels})")
        return self

    @cached_property
    def images(self) -> Images:
        """The images as they were when the configuration was first asked."""
        return find_images(self.path, self.splits)

    def facts(self) -> DataFacts:
        trained = Counter(self.images.labels[position] for position in self.images.parts["train"])
        classes = len(self.images.classes)
        counts = tuple(trained[label] for label in range(classes))
        return DataFacts(self.channels, self.image_size, classes, class_counts=counts)

    @cached_property
    def content(self) -> str:
        """What `digest` returns: every step of a plan asks for it."""
        return fingerprint({"images": self.images.digest(), "pillow": version("pillow")})

    def digest(self) -> str:
        return self.content

    def load(self) -> Splits:
        """Load the splits. Raises RecipeError with every file that is broken.

        Images that are not kept in memory are decoded when they are needed, and so found broken.
        """
        import torch

        from mcomp.data.splits import Splits
        from mcomp_stages.data.image_split import ImageSplit

        pixels = self.pixels()
        parts = {name: torch.tensor(positions) for name, positions in self.positions().items()}
        target = torch.tensor(self.images.labels)
        used = self.normalize or self.measured(pixels, parts["train"])
        mean, deviation = (torch.tensor(each).view(-1, 1, 1) for each in (used.mean, used.std))
        splits = {
            name: ImageSplit(at, target[at], pixels, mean, deviation, self.augment_of(name))
            for name, at in parts.items()
        }
        samples = {name: len(split) for name, split in splits.items()}
        facts = {**used.model_dump(mode="json"), "classes": list(self.images.classes), "samples": samples}
        return Splits(splits, facts)

    def serving(self, facts: Mapping[str, Any]) -> Serving | None:
        return Serving.image(facts, self.image_size, self.channels, self.fit)

    def augment_of(self, split: SplitName) -> Augment:
        """Return how a split is augmented: train is, as the recipe says."""
        return self.augment if split == "train" else Augment()

    def positions(self) -> dict[SplitName, tuple[int, ...]]:
        """Return the positions of each split's images; `calibration` is a part of `train`."""
        train = self.images.parts["train"]
        names = [self.images.names[position] for position in train]
        chosen = spread(names, self.calibration, self.splits.seed)
        return {**self.images.parts, "calibration": tuple(train[at] for at in chosen)}

    def pixels(self) -> Pixels:
        """Return what gives the pixels of images: from memory, if they are allowed to fit there."""
        from mcomp_stages.data.image_file import read_image
        from mcomp_stages.data.image_split import Decoder, kept

        files = [self.images.root / name for name in self.images.names]
        read = partial(read_image, image_size=self.image_size, channels=self.channels, fit=self.fit)
        decoder = Decoder(files, read, self.workers)
        size_bytes = len(files) * self.channels * self.image_size**2
        return kept(decoder) if self.cache == "memory" and size_bytes <= KEPT_BYTES else decoder

    def measured(self, pixels: Pixels, train: Tensor) -> Normalize:
        """Return the mean and deviation of the training images. Raises RecipeError if they are all alike."""
        from mcomp_stages.data.image_split import mean_and_deviation

        mean, deviation = mean_and_deviation(pixels, train)
        if min(deviation) == 0:
            raise RecipeError(f"{self.path}: every pixel of a channel is the same in all training images")
        return Normalize(mean=tuple(mean), std=tuple(deviation))
