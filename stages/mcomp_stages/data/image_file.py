"""One image file as pixels of the size and channels asked for."""

# S = pixels a side
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mcomp import plainfile
from mcomp.errors import Problem, RecipeError, named

if TYPE_CHECKING:
    from numpy.typing import NDArray

Fit = Literal["crop", "squash"]

# Only decoders that are needed: Pillow knows formats that start other programs.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 64 * 2**20  # a photograph has fewer; a bomb of a few kilobytes has more
DRAFT_SCALE = 2  # JPEG decodes at 1/2, 1/4 or 1/8 for nothing; twice the size asked for is left to resize
FULL_SCALE_16_BIT = 257


def read_image(path: Path, image_size: int, channels: int, fit: Fit) -> NDArray[np.uint8]:
    """Return the pixels (S, S) of one channel, or (S, S, 3), upright and resized with antialiasing.

    "crop" keeps the centre square, "squash" the whole. Raises RecipeError for what is broken, too large, has
    several frames, or has pixels with no plain meaning.
    """
    try:
        with plainfile.opened(path) as file:
            return decoded_image(file, path, image_size, channels, fit)
    except OSError as error:
        raise problem(path, f"cannot be decoded: {reason(error)}", "replace it, or remove it") from error


def decoded_image(file: IO[bytes], path: Path, image_size: int, channels: int, fit: Fit) -> NDArray[np.uint8]:
    """Return the pixels of an image whose bytes are in `file`, as `read_image` does; errors name `path`."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            refuse_extremes(image, path)
            image.draft(None, (DRAFT_SCALE * image_size, DRAFT_SCALE * image_size))
            ImageOps.exif_transpose(image, in_place=True)  # a copy of a large picture would be a second one
            plain = in_mode(image, "L" if channels == 1 else "RGB", path)
            return np.array(RESIZE[fit](plain, (image_size, image_size)))
    except RecipeError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large(path) from error
    except Exception as error:  # a broken file raises whatever it likes inside Pillow's decoders
        raise problem(path, f"cannot be decoded: {reason(error)}", "replace it, or remove it") from error


def refuse_extremes(image: Image.Image, path: Path) -> None:
    """Raise RecipeError for a bomb and for a film; nothing is decoded yet."""
    if image.width * image.height > MAX_PIXELS:
        raise too_large(path)
    # Not n_frames: a TIFF of many takes long to count. The further ones of a photograph in Apple's and
    # Samsung's format (MPO) are previews.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise problem(path, "holds several frames", "save each as a file")


def in_mode(image: Image.Image, mode: str, path: Path) -> Image.Image:
    """Return an image as gray ("L") or color ("RGB"). Raises RecipeError for pixels with no plain meaning."""
    if image.mode.startswith("I;16"):
        pixels = np.asarray(image, dtype=np.float64) / FULL_SCALE_16_BIT
        return Image.fromarray(pixels.round().astype(np.uint8)).convert(mode)
    if image.has_transparency_data:
        return on_white(image).convert(mode)
    if image.mode not in PLAIN_MODES:
        what = f"has pixels of Pillow's mode {image.mode}, which have no fixed range of brightness"
        raise problem(path, what, "save it with 8 bits a channel, or use arrays")
    return image if image.mode == mode else image.convert(mode)


def on_white(image: Image.Image) -> Image.Image:
    """Return an image with what is transparent in white: what lies under it may be anything."""
    colors = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", colors.size, "white"), colors)


def centre(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the largest square around the centre, resized."""
    return ImageOps.fit(image, size, method=Image.Resampling.BILINEAR)


def whole(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the whole image, resized to a square whatever its shape."""
    return image.resize(size, Image.Resampling.BILINEAR)


def reason(error: Exception) -> str:
    """Return in one line why Pillow, or the system, cannot read a file."""
    if isinstance(error, UnidentifiedImageError):
        return "cannot identify image file"  # without the name of the open file
    return named(getattr(error, "strerror", None) or str(error).partition("\n")[0])


def too_large(path: Path) -> RecipeError:
    """Return the error for an image of too many pixels."""
    return problem(path, f"has more than {MAX_PIXELS:,} pixels", "save it smaller, or remove it")


def problem(path: Path, what: str, next_step: str) -> RecipeError:
    """Return the error for one file."""
    return RecipeError(Problem(str(path), "", what, next_step))


RESIZE: dict[Fit, Callable[[Image.Image, tuple[int, int]], Image.Image]] = {"crop": centre, "squash": whole}
PLAIN_MODES = frozenset({"1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"})
