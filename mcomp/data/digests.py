"""Digests of files, which are read again only if what the file system says of them has changed.

A file of the last two seconds may change once more without a change of its times, as coarse as some file
systems keep them: it is read each time.
"""

from __future__ import annotations

import os
import time
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from mcomp.errors import RecipeError
from mcomp.fingerprint import file_digest

SETTLED_NS = 2 * 10**9


class Entry(NamedTuple):
    """What a file was when it was read; `sha256` is of its bytes.

    `mtime_ns` can be set by anybody (a copy that keeps the times), `ctime_ns` by nobody.
    """

    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    sha256: str


class Digests:
    """Digests by folder and name, as far as they are known. This one is of a process."""

    def __init__(self) -> None:
        self.folders: dict[Path, dict[str, Entry]] = {}

    def known(self, folder: Path) -> dict[str, Entry]:
        """Return what is known of the files in a folder; it may be added to."""
        if folder not in self.folders:
            self.folders[folder] = self.read(folder)
        return self.folders[folder]

    def read(self, folder: Path) -> dict[str, Entry]:
        """Return what is known from before."""
        return {}

    def keep(self) -> None:
        """Remember what is known, for a process after this one."""

    def of(self, path: Path) -> str:
        """Return the sha256 of a file's bytes. Raises OSError."""
        path = Path(os.path.abspath(path))
        known, before = self.known(path.parent), seen(path)
        entry = known.get(path.name)
        if entry is not None and entry[:4] == before:
            return entry.sha256
        began_ns = time.time_ns()
        digest = file_digest(path)
        if began_ns - max(before[2:]) >= SETTLED_NS and seen(path) == before:
            known[path.name] = Entry(*before, digest)
        return digest


def seen(path: Path) -> tuple[int, int, int, int]:
    """Return the first four fields of an `Entry`. Raises OSError."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


# Providers ask for digests and know of no store: which of them remembers, the command says.
DIGESTS: ContextVar[Digests] = ContextVar("DIGESTS", default=Digests())  # noqa: B039


def content_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes, read or remembered. Raises RecipeError if it cannot be read."""
    try:
        return DIGESTS.get().of(path)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror or error}") from error
