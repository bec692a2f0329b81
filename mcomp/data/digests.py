"""Digests of files that do not change while a process lives, and are asked for by every job of a sweep."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from mcomp.errors import RecipeError
from mcomp.fingerprint import file_digest

KNOWN_FILES = 2**20


def content_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes; they are read again only if inode, size or time have changed.

    Raises RecipeError if the file cannot be read.
    """
    try:
        stat = path.stat()
        return known_digest(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=KNOWN_FILES)
def known_digest(path: Path, inode: int, size_bytes: int, mtime_ns: int) -> str:
    """Return the sha256 of a file that is as it was when it was first read."""
    return file_digest(path)
