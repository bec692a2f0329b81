"""Arrays of others: objects, lies about shapes, bombs, and what is no file."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.hostile.attack import Attack, Prepare, both, files, hole, link, pipe

NUMPY = b"\x93NUMPY"
BROKEN = "cannot be read"
OBJECT = b"cos\nsystem\n(S'touch pwned'\ntR."


def header(shape: str = "(4,)", descr: str = "'<f4'", order: str = "False") -> str:
    """Return the text of a header."""
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def npy(text: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """Return a file with a header and numbers."""
    content = text.encode("latin1") + b"\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(content))
    return NUMPY + bytes(version) + length + content + data


GOOD = npy(header(), bytes(16))
LABELS = npy(header("(4,)", "'<i8'"), struct.pack("<4q", 0, 1, 0, 1))


def look(folder: Path) -> None:
    """Look at the arrays, as the plan of a recipe does."""
    from mcomp_stages.data.arrays import ArraysConfig

    config = ArraysConfig(path=folder / "data")
    config.facts()
    config.digest()


def look_at_archive(folder: Path) -> None:
    """Look at the arrays in an archive."""
    from mcomp_stages.data.arrays import ArraysConfig

    config = ArraysConfig(path=folder / "data.npz")
    config.facts()
    config.digest()


def digest(folder: Path) -> None:
    """Return what a plan knows of the data, without looking into it."""
    from mcomp_stages.data.arrays import ArraysConfig

    ArraysConfig(path=folder / "data").digest()


def laid(
    prepare: Prepare, told: str = BROKEN, source: str = "own", act: Callable[[Path], object] = look
) -> Attack:
    """Return an attack by what lies in a folder of arrays."""
    made = both(lambda folder: (folder / "data").mkdir(), prepare)
    return Attack(source, made, act, told, error="RecipeError")


def array(content: bytes, told: str = BROKEN, source: str = "numpy-format") -> Attack:
    """Return an attack by the inputs."""
    return laid(files({"data/image.npy": content, "data/target.npy": LABELS}), told, source)


def said(text: str, told: str = BROKEN, source: str = "numpy-format") -> Attack:
    """Return an attack by the header of the inputs."""
    return array(npy(text, bytes(64)), told, source)


def zipped(members: Sequence[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are two of one name
        for name, content in members:
            file.writestr(name, content)
    return written.getvalue()


def archive(
    members: Sequence[tuple[str, bytes]],
    told: str = BROKEN,
    source: str = "own",
    method: int = zipfile.ZIP_STORED,
    change: Callable[[bytearray], None] = lambda content: None,
) -> Attack:
    """Return an attack by the members of an archive, and changes of its bytes."""
    content = bytearray(zipped(members, method))
    change(content)
    return Attack(source, files({"data.npz": bytes(content)}), look_at_archive, told, error="RecipeError")


def laid_as_archive(prepare: Prepare, source: str) -> Attack:
    """Return an attack by what lies in the place of an archive."""
    return Attack(source, prepare, look_at_archive, BROKEN, error="RecipeError")


def encrypted(content: bytearray) -> None:
    """Say that the first member is encrypted."""
    content[content.index(b"PK\1\2") + 8] |= 1


def elsewhere(content: bytearray) -> None:
    """Say that the first member starts behind the end."""
    struct.pack_into("<I", content, content.index(b"PK\1\2") + 42, 2**32 - 2)


def stretched(content: bytearray) -> None:
    """Say that what stands before the numbers of the first member is long."""
    struct.pack_into("<H", content, 28, 2**16 - 1)


def garbled(content: bytearray) -> None:
    """Change what was compressed."""
    start = content.index(b"image.npy") + len("image.npy")
    content[start + 4 : start + 24] = b"\xff" * 20


TWO = [("image.npy", GOOD), ("target.npy", LABELS)]
NOISE = [("image.npy", npy(header("(400,)"), os.urandom(1600))), ("target.npy", LABELS)]

ATTACKS: dict[str, Attack] = {
    # objects
    "objects": array(npy(header("(1,)", "'|O'"), OBJECT), "objects would be pickles", "cve-2019-6446"),
    "objects in fields": said(
        header("(1,)", "[('a', '<f4'), ('b', '|O')]"), "only integers, floats", "cve-2019-6446"
    ),
    "a pickle": array(OBJECT, source="cve-2019-6446"),
    "objects in an archive": archive(
        [("image.npy", npy(header("(1,)", "'|O'"), OBJECT)), TWO[1]],
        "objects would be pickles",
        "cve-2019-6446",
    ),
    "dates": said(header("(1,)", "'<M8[s]'"), "only integers, floats"),
    "texts": said(header("(1,)", "'<U4'"), "only integers, floats"),
    "bytes without a name": said(header("(1,)", "'|V8'"), "only integers, floats"),
    # headers
    "code for a type": said(header("(4,)", "__import__('os').system('touch pwned')")),
    "code for a shape": said(header("(__import__('os').system('touch pwned'),)")),
    "a type that is no type": said(header("(4,)", "'f4,,,'")),
    "a type that is a number": said(header("(4,)", "5")),
    "a type within types": said(header("(4,)", "(('<f4', (2,)), " * 50)),
    "a type of an exabyte": said(header("(1,)", "('<f4', (1000000, 1000000))"), source="cwe-770"),
    "brackets in brackets": said("(" * 9000, source="cwe-674"),
    "signs before signs": said("-" * 9000 + "1", source="cwe-674"),
    "lists in lists": said("[" * 190 + "]" * 190, source="cwe-674"),
    "a number of many digits": said(header(f"({'9' * 5000},)")),
    "a long header": array(npy(header() + " " * 200_000, bytes(16), (2, 0))),
    "a header of four gigabytes": array(NUMPY + b"\2\0" + struct.pack("<I", 2**32 - 1), source="cwe-770"),
    "no mapping": said("1"),
    "another key": said("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), 'x': 1}"),
    "an order that is none": said(header(order="'x'")),
    "NULs": said("\0" * 100),
    "escapes": said("\x1b[2J\x1b]0;pwned\x07", source="cwe-150"),
    "a version of the future": array(npy(header(), bytes(16), (9, 0))),
    "nothing": array(b""),
    # shapes
    "a length below zero": said(header("(-1,)")),
    "two lengths below zero": said(header("(-1, -4)")),
    "a length that is true": said(header("(True,)")),
    "a length with a point": said(header("(1.5,)")),
    "a shape of a quintillion": said(header("(1000000000, 1000000000)"), "is truncated", "cwe-770"),
    "a length beyond 64 bits": said(header(f"({10**30},)"), "is truncated", "cwe-770"),
    "nothing by very much": said(header(f"(0, {2**62})"), source="cwe-770"),
    "nothing by more than that": said(header(f"(0, {10**30})"), source="cwe-770"),
    "seventy axes": said(header(f"({'1, ' * 70})")),
    # archives
    "a bomb": archive(
        [("image.npy", GOOD + bytes(2**25)), TWO[1]],
        "more than its headers promise",
        "cwe-409",
        zipfile.ZIP_DEFLATED,
    ),
    "a bomb that promises less than it holds": archive(
        [("image.npy", npy(header(f"({2**40},)"), bytes(2**16))), TWO[1]],
        "is truncated",
        "cwe-409",
        zipfile.ZIP_DEFLATED,
    ),
    "compressed by LZMA": archive(TWO, "in a way that NumPy does not", "cwe-409", zipfile.ZIP_LZMA),
    "compressed by bzip2": archive(TWO, "in a way that NumPy does not", "cwe-409", zipfile.ZIP_BZIP2),
    "compressed and garbled": archive(NOISE, method=zipfile.ZIP_DEFLATED, change=garbled),
    "encrypted": archive(TWO, change=encrypted, source="picklescan-w8jq"),
    "a member behind the end": archive(TWO, change=elsewhere, source="fifield"),
    "a member far from its name": archive(TWO, "", change=stretched, source="fifield"),
    "two members of one name": archive(
        [*TWO, ("image.npy", GOOD)], "two arrays of one name", "modelaudit-1408"
    ),
    "members that lead out": archive(
        [("../../pwned.npy", GOOD), ("/etc/passwd.npy", GOOD)], "has no array `target`", "zip-slip"
    ),
    "members with escapes": archive([("\x1b[2J.npy", GOOD)], r"\x1b[2J", "cwe-150"),
    "three thousand members": archive(
        [(f"{n}.npy", b"") for n in range(3000)], "256 are the most", "cwe-770"
    ),
    "no members": archive([], "has no array `target`"),
    "no archive": Attack("own", files({"data.npz": b"PK\3\4"}), look_at_archive, BROKEN, error="RecipeError"),
    "an archive that is a pipe": laid_as_archive(pipe("data.npz"), "cwe-67"),
    "an archive that is a device": laid_as_archive(link("data.npz", "/dev/zero"), "cwe-67"),
    "an archive of a terabyte": laid_as_archive(hole("data.npz"), "cwe-770"),
    # what is no file
    "a pipe": laid(pipe("data/image.npy"), "it is no plain file", "cwe-67"),
    "a pipe, digested": laid(pipe("data/image.npy"), "it is no plain file", "cwe-67", digest),
    "a device": laid(link("data/image.npy", "/dev/zero"), "it is no plain file", "cwe-67"),
    "a device, digested": laid(link("data/image.npy", "/dev/zero"), "it is no plain file", "cwe-67", digest),
    "a terminal": laid(link("data/image.npy", "/dev/tty"), BROKEN, "cwe-67"),
    "a folder": laid(lambda folder: (folder / "data" / "image.npy").mkdir()),
    "a link to itself": laid(link("data/image.npy", "image.npy"), source="cwe-59"),
    "a link to a text": laid(link("data/image.npy", "../../../good/good.yaml"), source="cwe-59"),
    "a name with escapes": laid(files({"data/\x1b[2J.npy": b""}), r"\x1b[2J", "cwe-150"),
    "many files": laid(
        lambda folder: [(folder / "data" / f"{n}.npy").touch() for n in range(300)],
        "256 are the most",
        "cwe-770",
    ),
}
