from __future__ import annotations

import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mcomp.errors import RecipeError
from mcomp_stages.data.image_file import FORMATS, read_image
from tests.stages.data.pictures import gradient


def read(image: Image.Image, path: Path, size: int = 8, channels: int = 3, fit: str = "crop") -> np.ndarray:
    image.save(path)
    return read_image(path, size, channels, fit)


def said(path: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        read_image(path, 8, 3, "crop")
    return str(caught.value).replace(str(path), "FILE")


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp", "jpg"])
def test_known_formats_are_read_and_close_to_what_was_saved(suffix: str, tmp_path: Path) -> None:
    pixels = read(gradient(8, 8), tmp_path / f"a.{suffix}")
    assert pixels.shape == (8, 8, 3)
    assert np.abs(pixels.astype(int) - np.asarray(gradient(8, 8))).mean() < 12


@given(st.integers(1, 40), st.integers(1, 40), st.integers(4, 16), st.sampled_from(["crop", "squash"]))
def test_every_shape_becomes_the_square_asked_for(height: int, width: int, size: int, fit: str) -> None:
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        gradient(height, width).save(file.name)
        for channels, shape in ((1, (size, size)), (3, (size, size, 3))):
            assert read_image(Path(file.name), size, channels, fit).shape == shape


def test_crop_keeps_the_centre_and_squash_the_whole(tmp_path: Path) -> None:
    wide = gradient(8, 24)
    centre, whole = (read(wide, tmp_path / "a.png", fit=fit) for fit in ("crop", "squash"))
    assert np.array_equal(centre, np.asarray(wide)[:, 8:16])
    assert whole[:, 0, 0].max() < 30 < 225 < whole[:, -1, 0].min()


def test_shrinking_averages(tmp_path: Path) -> None:
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    pixels = read(Image.fromarray(board.astype(np.uint8)), tmp_path / "a.png", channels=1)
    assert np.abs(pixels.astype(int) - 127).max() < 12


def test_a_picture_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera stood on its right side
    gradient(8, 8).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png", 8, 3, "crop"), np.asarray(gradient(8, 8)))


def test_gray_and_color_are_converted_into_each_other(tmp_path: Path) -> None:
    gray = gradient(8, 8, channels=1)
    assert np.array_equal(read(gray, tmp_path / "a.png"), np.stack([np.asarray(gray)] * 3, axis=-1))
    color = read(gradient(8, 8), tmp_path / "b.png", channels=1)
    assert np.array_equal(color, np.asarray(gradient(8, 8).convert("L")))


@pytest.mark.parametrize("mode", ["1", "P", "CMYK"])
def test_other_modes_with_a_plain_meaning_are_converted(mode: str, tmp_path: Path) -> None:
    image = gradient(8, 8).convert(mode)
    expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(read(image, tmp_path / "a.tiff"), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white_whatever_lies_under_it(mode: str, tmp_path: Path) -> None:
    ink = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    ink.paste((0, 0, 0, 255), (4, 0, 8, 8))
    pixels = read(ink.convert(mode), tmp_path / "a.png")
    assert (pixels[:, :4] == 255).all()
    assert (pixels[:, 4:] == 0).all()


def test_sixteen_bits_keep_the_whole_range(tmp_path: Path) -> None:
    wide = np.asarray(gradient(8, 8, channels=1)).astype(np.uint16) * 257
    pixels = read(Image.fromarray(wide), tmp_path / "a.png", channels=1)
    assert np.array_equal(pixels, np.asarray(gradient(8, 8, channels=1)))


@pytest.mark.parametrize(("mode", "dtype"), [("F", np.float32), ("I", np.int32)])
def test_pixels_without_a_range_are_refused_by_name(mode: str, dtype: type, tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    Image.fromarray(np.zeros((8, 8), dtype)).save(path)
    assert said(path) == (
        f"FILE: has pixels of Pillow's mode {mode}, which have no fixed range of brightness; "
        "save it with 8 bits a channel, or use arrays"
    )


@pytest.mark.parametrize("size", [(9000, 9000), (60_000, 60_000)])
def test_a_bomb_is_refused_before_it_is_decoded(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(bomb(*size))
    assert said(path) == "FILE: has more than 67,108,864 pixels; save it smaller, or remove it"


def test_a_film_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    frames = [gradient(8, 8) for _ in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert said(path) == "FILE: holds several frames; save each as a file"


@given(data=st.data())
def test_a_broken_file_is_one_error_that_names_it(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    suffix = data.draw(st.sampled_from(["png", "jpg", "bmp", "tiff", "webp", "ppm"]))
    path = tmp_path_factory.getbasetemp() / f"broken.{suffix}"
    gradient(8, 8).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) // 2))])
    assert said(path).startswith("FILE: cannot be decoded: ")


def test_a_text_with_the_name_of_an_image_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("hello")
    assert said(path) == "FILE: cannot be decoded: cannot identify image file; replace it, or remove it"


def test_a_format_that_starts_a_program_is_not_opened(tmp_path: Path) -> None:
    assert "EPS" not in FORMATS
    path = tmp_path / "a.png"
    gradient(8, 8).save(path, "EPS")
    assert said(path).startswith("FILE: cannot be decoded: ")
