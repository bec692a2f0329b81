"""Arrays in a .npz file or a folder of .npy files, mapped into memory where possible. Never pickles."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from mcomp import plainfile
from mcomp.errors import Problem, RecipeError, named

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS = "biuf"  # truth values, integers, floats
UNPACKED_BYTES = 2 * 2**30  # what compressed members may need
MOST_ARRAYS = 256
LOCAL_HEADER_BYTES = 30
STORED = zipfile.ZIP_STORED
WRITTEN_BY_NUMPY = (STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class Header:
    """What an array says of itself before its numbers."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]

    @property
    def size_bytes(self) -> int:
        """How many bytes it promises."""
        return self.dtype.itemsize * prod(self.shape)


HEADERS: dict[tuple[int, int], Callable[[IO[bytes]], tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


def open_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file or a folder by name.

    Raises RecipeError for what is broken, compressed beyond 2 GiB, or holds no plain numbers.
    """
    if path.is_dir():
        files = sorted(file for file in path.glob("*.npy") if not file.name.startswith("."))
        require_few(len(files), path)
        return {file.stem: open_npy(file) for file in files}
    if path.suffix != ".npz":
        raise problem(path, "is neither a .npz file nor a folder of .npy files", "save it with numpy.savez")
    return open_npz(path)


def require_few(number: int, path: Path) -> None:
    """Raise RecipeError for more arrays than any model has inputs."""
    if number > MOST_ARRAYS:
        raise problem(path, f"holds {number} arrays, and {MOST_ARRAYS} are the most", "stack samples in one")


def open_npy(path: Path) -> NDArray[Any]:
    """Map one file into memory."""
    try:
        with plainfile.opened(path) as file:
            header = read_header(file, path)
            offset = file.tell()
        return mapped(path, header, offset)
    except (OSError, ValueError) as error:
        raise unreadable(path, error, "numpy.save") from error


def open_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Map the members of an archive that are stored as they are, and unpack the others."""
    try:
        with plainfile.opened(path) as file, zipfile.ZipFile(file) as archive:
            members = [each for each in archive.infolist() if each.filename.endswith(".npy")]
            require_few(len(members), path)
            if len({each.filename for each in members}) < len(members):
                raise problem(path, "holds two arrays of one name", "save it with numpy.savez")
            if any(each.compress_type not in WRITTEN_BY_NUMPY for each in members):
                raise problem(path, "is compressed in a way that NumPy does not", "save it with numpy.savez")
            unpacked = sum(each.file_size for each in members if each.compress_type != STORED)
            if unpacked > UNPACKED_BYTES:
                raise problem(path, "needs more than 2 GiB unpacked", "save it with numpy.savez, which maps")
            return {each.filename.removesuffix(".npy"): member(archive, each, path) for each in members}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise unreadable(path, error, "numpy.savez") from error


def member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    """Return one array of an archive."""
    with archive.open(entry) as file:
        header = read_header(file, path / entry.filename)
        size_bytes = file.tell()
        if entry.compress_type != STORED:
            require_size(header, entry.file_size - size_bytes, path / entry.filename)
            if header.size_bytes < entry.file_size - size_bytes:  # before it is unpacked: it may be a bomb
                raise problem(path, "holds more than its headers promise", "save it with numpy.savez")
            numbers = np.frombuffer(file.read(), dtype=header.dtype)
            return numbers.reshape(header.shape, order="F" if header.fortran_order else "C")
    return mapped(path, header, data_offset(path, entry) + size_bytes)


def read_header(file: IO[bytes], path: Path) -> Header:
    """Read the start of an array. Raises RecipeError for other than numbers, ValueError for no array."""
    reader = HEADERS.get(npy.read_magic(file))
    if reader is None:
        raise ValueError("an unknown version of the .npy format")
    try:
        header = Header(*reader(file))
    except Exception as error:  # NumPy has Python's parser read it, which raises whatever it likes
        raise ValueError(f"no header of NumPy: {error}") from error
    if any(type(length) is not int or length < 0 for length in header.shape):
        raise ValueError("a shape of other than lengths")
    if header.dtype.kind not in KINDS:
        what = f"holds {header.dtype}, and only integers, floats and booleans are read"
        raise problem(path, what, "convert it with astype; objects would be pickles")
    return header


def mapped(path: Path, header: Header, offset: int) -> NDArray[Any]:
    """Map an array into memory. Raises RecipeError if the file ends before it."""
    require_size(header, path.stat().st_size - offset, path)
    if 0 in header.shape:
        return np.empty(header.shape, header.dtype)
    return np.memmap(
        path, header.dtype, "r", offset, header.shape, order="F" if header.fortran_order else "C"
    )


def require_size(header: Header, size_bytes: int, path: Path) -> None:
    """Raise RecipeError if there are fewer bytes than the header promises."""
    if header.size_bytes > size_bytes:
        raise problem(path, "is truncated: it ends before its numbers do", "write it again")


def data_offset(path: Path, entry: zipfile.ZipInfo) -> int:
    """Return where the bytes of a stored member start: behind its own header, its name and extra fields."""
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        local = file.read(LOCAL_HEADER_BYTES)
    lengths = (int.from_bytes(local[start : start + 2], "little") for start in (26, 28))
    return entry.header_offset + LOCAL_HEADER_BYTES + sum(lengths)


def unreadable(path: Path, error: Exception, written_by: str) -> RecipeError:
    """Return the error for a file that nobody can read."""
    why = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
    return problem(path, f"cannot be read: {named(why)}", f"write it again with {written_by}")


def problem(path: Path, what: str, next_step: str) -> RecipeError:
    """Return the error for one file."""
    return RecipeError(Problem("", "path", f"{path} {what}", next_step))
