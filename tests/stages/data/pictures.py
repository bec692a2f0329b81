"""Image files for the tests of `image_folder`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def gradient(height: int, width: int, channels: int = 3) -> Image.Image:
    """A picture whose brightness grows to the right and down, another way in each channel."""
    row, column = np.mgrid[0:height, 0:width]
    right, down = 255 * column / max(width - 1, 1), 255 * row / max(height - 1, 1)
    planes = np.stack([right, down, 255 - right], axis=-1).round().astype(np.uint8)
    return Image.fromarray(planes if channels == 3 else planes[..., 0])


def digits_folder(folder: Path, num_samples: int) -> Path:
    """Write scikit-learn's first digits as PNG files, a folder a class."""
    from sklearn.datasets import load_digits

    known = load_digits()
    for number in range(num_samples):
        target = folder / str(known.target[number])
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray((known.images[number] * 15.9).astype(np.uint8)).save(target / f"{number}.png")
    return folder
