"""Images of others: bombs, lies about sizes, films, formats that start programs, and what is no file."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tests.hostile.attack import Attack, Prepare, both, files, hole, link, pipe

SIGNATURE = b"\x89PNG\r\n\x1a\n"
UNKNOWN = "cannot be decoded: cannot identify image file"
BROKEN = "cannot be decoded"
LARGE = "has more than 67,108,864 pixels"


def load(folder: Path) -> None:
    """Load the images of a folder."""
    from mcomp_stages.data.image_folder import ImageFolderConfig

    ImageFolderConfig(path=folder / "data", image_size=8).load()


def plan(folder: Path) -> None:
    """Look at them as the plan of a recipe does: at names and bytes."""
    from mcomp_stages.data.image_folder import ImageFolderConfig

    config = ImageFolderConfig(path=folder / "data", image_size=8)
    config.facts()
    config.digest()


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a part of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    width: int = 8,
    height: int = 8,
    *parts: tuple[bytes, bytes],
    pixels: bytes | None = None,
    colors: int = 2,
    depth: int = 8,
) -> bytes:
    """Return a PNG that says it is of a size, with parts before its pixels."""
    if pixels is None:
        pixels = zlib.compress(bytes(8 * (1 + 8 * 3)))
    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colors, 0, 0, 0))
    between = b"".join(chunk(*part) for part in parts)
    return SIGNATURE + start + between + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def saved(kind: str, mode: str = "RGB", **how: Any) -> bytes:
    """Return an image as Pillow writes it."""
    written = io.BytesIO()
    Image.new(mode, (16, 16)).save(written, kind, **how)
    return written.getvalue()


def film(kind: str) -> bytes:
    """Return an image of three frames."""
    more = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    return saved(kind, save_all=True, append_images=more)


TAGS = {256: (3, 1, 8), 257: (3, 1, 8), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 273: (4, 1, 8)}
TAGS |= {277: (3, 1, 1), 278: (3, 1, 8), 279: (4, 1, 64)}


def directory(tags: dict[int, tuple[int, int, int]], following: int) -> bytes:
    """Return what a TIFF says of one image, and where the next one is."""
    entries = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in tags.items())
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)


def tiff(changes: dict[int, tuple[int, int, int]], following: int = 0) -> bytes:
    """Return a TIFF of one image with changes."""
    return b"II*\0\x08\0\0\0" + directory({**TAGS, **changes}, following) + bytes(64)


def long_tiff(count: int) -> bytes:
    """Return a TIFF of many images."""
    size = len(directory(TAGS, 0))
    starts = [8 + size * (number + 1) for number in range(count - 1)]
    return b"II*\0\x08\0\0\0" + b"".join(directory(TAGS, start) for start in [*starts, 0])


def jpeg_of_size(width: int, height: int) -> bytes:
    """Return a JPEG that says it is of a size."""
    content = bytearray(saved("JPEG"))
    struct.pack_into(">HH", content, content.index(b"\xff\xc0") + 5, height, width)
    return bytes(content)


def bitmap(width: int, height: int, bits: int = 24, packed: int = 0, pixels: bytes = b"") -> bytes:
    """Return a BMP that says it is of a size."""
    sizes = (0, 0, 0, 54, 40, width, height, 1, bits, packed, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", *sizes) + pixels


def animated_webp_of_size() -> bytes:
    """Return a WebP that says it is as large as can be."""
    return b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff" * 6


def laid(prepare: Prepare, told: str, source: str, act: Any = load) -> Attack:
    """Return an attack by what lies beside good images."""
    good = {
        f"data/{split}/{name}/{number}.png": png(
            8, 8, pixels=zlib.compress(bytes([0, *[40 * number] * 24]) * 8)
        )
        for split in ("train", "validation", "test")
        for name in ("cat", "dog")
        for number in range(3)
    }
    return Attack(source, both(files(good), prepare), act, told, error="RecipeError")


def image(content: bytes, told: str = BROKEN, source: str = "pillow-security", name: str = "x.png") -> Attack:
    """Return an attack by the bytes of an image."""
    return laid(files({f"data/train/cat/{name}": content}), told, source)


def said(parts: Sequence[tuple[bytes, bytes]], told: str, source: str) -> Attack:
    """Return an attack by parts of a PNG."""
    return image(png(8, 8, *parts), told, source)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(touch pwned) system\n%%EOF\n"
PLACE = "data/train/cat/x.png"

ATTACKS: dict[str, Attack] = {
    # sizes
    "a PNG of exapixels": image(png(2**31 - 1, 2**31 - 1), LARGE, "png-bomb"),
    "a PNG just too large": image(png(8193, 8192), LARGE, "png-bomb"),
    "a PNG of nothing": image(png(0, 0)),
    "a PNG without most of its pixels": image(png(8192, 8192), BROKEN, "png-bomb"),
    "a JPEG of gigapixels": image(jpeg_of_size(65535, 65535), LARGE, name="x.jpg"),
    "a TIFF of exapixels": image(tiff({256: (4, 1, 2**31 - 1), 257: (4, 1, 2**31 - 1)}), LARGE, name="x.tif"),
    "a TIFF of nothing": image(tiff({256: (4, 1, 0)}), name="x.tif"),
    "a TIFF of two billion samples": image(tiff({277: (4, 1, 2**31)}), BROKEN, "cve-2022-45199", "x.tif"),
    "a TIFF of two billion strips": image(tiff({273: (4, 2**31, 8)}), name="x.tif"),
    "a BMP of exapixels": image(bitmap(2**30, 2**30), LARGE, name="x.bmp"),
    "a BMP of negative size": image(bitmap(-8, -8), LARGE, name="x.bmp"),
    "a BMP that packs": image(bitmap(8000, 8000, 8, 1, b"\0\2\xff\xff" * 99), name="x.bmp"),
    "a WebP of exapixels": image(animated_webp_of_size(), LARGE, name="x.webp"),
    "a PPM of gigapixels": image(b"P6\n99999 99999\n255\n", LARGE, name="x.ppm"),
    "a PPM of a long number": image(b"P6\n" + b"9" * 10**6, name="x.ppm"),
    "a PPM of negative size": image(b"P6\n-8 8\n255\n", name="x.ppm"),
    "a PGM without brightness": image(b"P5\n8 8\n0\n" + bytes(64), name="x.pgm"),
    "a PPM in words": image(b"P3\n8 8\n255\n" + b"1" * 10**6, name="x.ppm"),
    # bombs beside the pixels
    "a text that unpacks": said(
        [(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**24)))], "MAX_TEXT_CHUNK", "png-bomb"
    ),
    "a color profile that unpacks": said(
        [(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**24)))], "MAX_TEXT_CHUNK", "png-bomb"
    ),
    "pixels that do not unpack": image(png(pixels=b"\xff" * 50), BROKEN),
    "a checksum that is wrong": image(png()[:-20] + b"\0" * 20, BROKEN),
    "half of it": image(png()[:44], BROKEN),
    "half of a JPEG": image(saved("JPEG")[:200], BROKEN, name="x.jpg"),
    # films and modes
    "an animated PNG": image(film("PNG"), "holds several frames"),
    "an animated WebP": image(film("WEBP"), "holds several frames", name="x.webp"),
    "a TIFF of three": image(film("TIFF"), "holds several frames", name="x.tif"),
    "a TIFF of ten thousand": image(long_tiff(10_000), "holds several frames", "own", "x.tif"),
    "pixels of 32 bits": image(saved("TIFF", "I"), "mode I", name="x.tif"),
    "pixels in floats": image(saved("TIFF", "F"), "mode F", name="x.tif"),
    # formats
    "a program in PostScript": image(EPS, UNKNOWN),
    "a picture that loads others": image(b"<svg><image href='file:///etc/passwd'/></svg>", UNKNOWN),
    "a GIF": image(saved("GIF"), UNKNOWN),
    "a JPEG 2000": image(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), UNKNOWN),
    "an icon": image(saved("ICO"), UNKNOWN),
    "a pickle": image(b"\x80\x02cos\nsystem\n(S'touch pwned'\ntR.", UNKNOWN),
    "nothing": image(b"", UNKNOWN),
    "a hole of a terabyte": laid(hole(PLACE), UNKNOWN, "cwe-770"),
    # what is no file
    "a pipe": laid(pipe(PLACE), "is no ordinary file", "cwe-67", plan),
    "a device": laid(link(PLACE, "/dev/zero"), "is no ordinary file", "cwe-67", plan),
    "a link to itself": laid(link(PLACE, "x.png"), "is no ordinary file", "cwe-59", plan),
    "a link to a folder outside": laid(
        link("data/train/cat/more", "../../../../../outside"), "is a folder inside a class", "cwe-59", plan
    ),
    "a link to a text": laid(link(PLACE, "../../../../../good/good.yaml"), UNKNOWN, "cwe-59"),
    "a name with escapes": laid(
        files({"data/train/cat/\x1b[2J.png": png()}), "cannot be printed", "cwe-150", plan
    ),
    "a class with escapes": laid(
        files({"data/train/\x1b[2J/1.png": png()}), "cannot be printed", "cwe-150", plan
    ),
    "a name of no encoding": laid(
        lambda folder: (folder / "data/train/cat" / "\udcff.png").write_bytes(b""),
        "cannot be printed",
        "cwe-150",
        plan,
    ),
    "a program beside the images": laid(
        files({"data/train/cat/evil.py": b"import os; os.system('touch pwned')"}),
        "is no image by its name",
        "own",
        plan,
    ),
}
