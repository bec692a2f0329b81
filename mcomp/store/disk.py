"""Every change that the store makes on the disk, one method each: the seam at which the tests break them."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mcomp.errors import StoreError, StoreFull
from mcomp.signals import deferred

FULL = (errno.ENOSPC, errno.EDQUOT)

ADVICE = {
    errno.EACCES: "check its permissions, or choose another store with --store",
    errno.EPERM: "check its permissions, or choose another store with --store",
    errno.EROFS: "that disk is read-only: choose another store with --store",
    errno.EIO: "the disk reports a fault: check it, or choose another store with --store",
    errno.ENOTDIR: "a file stands where a folder is needed: move it, or choose another store with --store",
    errno.ENOENT: "it was removed while it was in use: run again",
    errno.EXDEV: "work and result must be on one disk: no folder of a store may be a mount or a link",
}


class Disk:
    """The real disk. What was written is safe from a power cut only after the matching sync.

    Every method raises StoreFull if there is no room, and StoreError, naming the file, if it fails otherwise.
    """

    def write(self, path: Path, data: bytes) -> None:
        """Write a whole file, not yet synced."""
        with explained("write", path, len(data)):
            path.write_bytes(data)

    def append(self, path: Path, data: bytes) -> None:
        """Add to the end of a file in one call, so that lines of several processes do not mix."""
        with explained("write", path, len(data)):
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                written = os.write(descriptor, data)
            finally:
                os.close(descriptor)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync_file(self, path: Path) -> None:
        """Wait until the bytes of a file are on the disk. Its name is not: see `sync_folder`."""
        with explained("write", path):
            sync(path, os.O_RDONLY)

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in a folder are on the disk."""
        with explained("write", path):
            sync(path, os.O_RDONLY | os.O_DIRECTORY)

    def mkdir(self, path: Path) -> None:
        """Make one folder. Raises FileExistsError."""
        with explained("make", path):
            path.mkdir()

    def rename(self, source: Path, target: Path) -> None:
        """Give a folder with files in it a new name in one step. Raises FileExistsError: none is replaced."""
        with explained("make", target):
            try:
                os.rename(source, target)
            except OSError as error:
                if error.errno == errno.ENOTEMPTY:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
                raise

    def replace(self, source: Path, target: Path) -> None:
        """Put a file in the place of another in one step."""
        with explained("write", target):
            os.replace(source, target)

    def remove(self, path: Path) -> None:
        """Remove a file, or a folder with all that is in it; a link is removed, not followed."""
        with explained("remove", path), suppress(FileNotFoundError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    @deferred()
    def put(self, path: Path, data: bytes, temporary: Path) -> None:
        """Write and sync a file so that its name always means the whole old or the whole new content."""
        try:
            self.write(temporary, data)
            self.sync_file(temporary)
            self.replace(temporary, path)
        except StoreError:
            with suppress(StoreError):
                self.remove(temporary)
            raise
        self.sync_folder(path.parent)

    def read(self, path: Path) -> bytes:
        """Return the bytes of a plain file."""
        with explained("read", path), opened(path) as file:
            return file.read()

    def sha256(self, path: Path) -> str:
        """Return the digest of a plain file's bytes."""
        with explained("read", path), opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def files_below(self, folder: Path) -> dict[str, int | None]:
        """Return the size of every file below a folder by relative name; None for what is no plain file."""
        with explained("read", folder):
            return dict(walk(folder, ""))

    def free_bytes(self, folder: Path) -> int:
        """Return the room that is left on the disk of a folder, which need not be there yet."""
        with explained("read", folder):
            return room(folder)


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """Open a plain file for reading: no link is followed, and no pipe or device is waited for."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a plain file", str(path))
        yield file


def walk(folder: Path, prefix: str) -> Iterator[tuple[str, int | None]]:
    """Yield (relative name, size) of everything below `folder` that is not a folder, following no link."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from walk(folder / entry.name, name + "/")
            else:
                plain = entry.is_file(follow_symlinks=False)
                yield name, entry.stat(follow_symlinks=False).st_size if plain else None


def sync(path: Path, flags: int) -> None:
    """Flush a file or a folder to the disk."""
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explained(doing: str, path: Path, needed_bytes: int = 0) -> Iterator[None]:
    """Turn the system's errors into the store's: the file, what failed and what to do."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in FULL:
            figures = f"{needed_bytes:,} bytes needed, {room_in_words(path)} free"
            raise StoreFull(
                f"cannot {doing} {path}: the disk is full ({figures}); make room and run again: what was "
                "published before is intact"
            ) from error
        advice = ADVICE.get(error.errno or 0, "choose another store with --store")
        raise StoreError(f"cannot {doing} {path}: {error.strerror or error}; {advice}") from error


def room(path: Path) -> int:
    """Return the bytes left on the disk of a path. Raises OSError."""
    path = path.absolute()
    return shutil.disk_usage(next(each for each in (path, *path.parents) if each.exists())).free


def room_in_words(path: Path) -> str:
    """Return the bytes left on the disk of a path, as text."""
    with suppress(OSError):
        return f"{room(path):,}"
    return "an unknown number"
