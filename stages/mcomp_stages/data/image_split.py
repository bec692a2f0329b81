"""Images as batches: decoded once and kept, or each time anew."""

# N = samples, C = channels, S = pixels a side
from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mcomp.data.augment import Augment
from mcomp.data.contract import Batch
from mcomp.errors import Problem, RecipeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 512
SHOWN = 20  # broken files

Pixels = Callable[[Tensor], Tensor]
"""The pixels (N, C, S, S) in uint8 of the images at positions (N,)."""


@dataclass(frozen=True)
class Decoder:
    """Decodes files, or what else `read` takes, in `workers` threads: Pillow lets go of Python's lock."""

    files: Sequence[Any]
    read: Callable[[Any], NDArray[np.uint8]]
    workers: int

    def __call__(self, positions: Tensor) -> Tensor:
        """Return the pixels (N, C, S, S). Raises RecipeError with every file that is broken."""
        decoded = self.decoded([self.files[position] for position in positions.tolist()])
        broken = [each for result in decoded if isinstance(result, RecipeError) for each in result.problems]
        if broken:
            raise RecipeError(shortened(broken))
        pixels = torch.from_numpy(np.stack([result for result in decoded if isinstance(result, np.ndarray)]))
        return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()

    def decoded(self, files: Sequence[Any]) -> list[NDArray[np.uint8] | RecipeError]:
        """Return the pixels of each file, or what is wrong with it."""
        if self.workers < 2:
            return [self.one(file) for file in files]
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(self.one, files))

    def one(self, file: Any) -> NDArray[np.uint8] | RecipeError:
        """Return the pixels of a file, or what is wrong with it."""
        try:
            return self.read(file)
        except RecipeError as error:
            return error


@dataclass(frozen=True)
class ImageSplit:
    """A split of images; `indices` (N,) are their positions among all, `target` (N,) their classes.

    `mean` and `deviation` (C, 1, 1) are of pixels from 0 to 1.
    """

    indices: Tensor
    target: Tensor
    pixels: Pixels
    mean: Tensor
    deviation: Tensor
    augment: Augment = field(default_factory=Augment)

    @property
    def augmented(self) -> bool:
        return self.augment.changes

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, positions: Tensor, draw: int | None = None) -> Batch:
        indices = self.indices[positions]
        image = (self.pixels(indices).float() / 255 - self.mean) / self.deviation
        if draw is not None and self.augmented:
            image = self.augment.applied(image, indices, draw)
        return Batch(indices, {"image": image}, self.target[positions])


def kept(decoder: Decoder) -> Pixels:
    """Return the pixels of all files from memory. Raises RecipeError with every file that is broken."""
    pixels = decoder(torch.arange(len(decoder.files)))
    return lambda positions: pixels[positions]


def mean_and_deviation(pixels: Pixels, positions: Tensor) -> tuple[list[float], list[float]]:
    """Return each channel's mean and deviation over some images, of pixels from 0 to 1.

    Sums of integers: the order of the images does not matter.
    """
    count, total, squares = 0, torch.tensor(0), torch.tensor(0)
    for some in torch.split(positions, CHUNK):
        values = pixels(some).long()
        count += values[:, 0].numel()
        total = total + values.sum(dim=(0, 2, 3))
        squares = squares + values.square().sum(dim=(0, 2, 3))
    mean = total.double() / count
    deviation = (squares.double() / count - mean.square()).clamp(min=0).sqrt()
    return (mean / 255).tolist(), (deviation / 255).tolist()


def shortened(problems: Sequence[Problem]) -> list[Problem]:
    """Return the first problems, and how many files are broken beyond them."""
    more = len(problems) - SHOWN
    return [*problems[:SHOWN], *([Problem("", "", f"and {more} more files")] if more > 0 else [])]
