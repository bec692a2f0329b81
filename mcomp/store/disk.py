"""Every change that the store makes on the disk, one method each: the seam at which the tests break them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mcomp import plainfile
from mcomp.errors import StoreError, StoreFull
from mcomp.signals import deferred

FULL = (errno.ENOSPC, errno.EDQUOT)

# Of what is read whole. The longest is what a sweep of 10,000 jobs that had nothing to do says of them.
READ_LIMIT_BYTES = 256 * 2**20

ADVICE = {
    errno.EACCES: "check its permissions, or choose another store with --store",
    errno.EPERM: "check its permissions, or choose another store with --store",
    errno.EROFS: "that disk is read-only: choose another store with --store",
    errno.EIO: "the disk reports a fault: check it, or choose another store with --store",
    errno.ENOTDIR: "a file stands where a folder is needed: move it, or choose another store with --store",
    errno.ENOENT: "it was removed while it was in use: run again",
    errno.ELOOP: "a link stands where a file is needed: remove it, or choose another store with --store",
    errno.EXDEV: "work and result must be on one disk: no folder of a store may be a mount or a link",
}


class Disk:
    """The real disk. What was written is safe from a power cut only after the matching sync.

    Every method raises StoreFull if there is no room, and StoreError, naming the file, if it fails otherwise.
    """

    def write(self, path: Path, data: bytes) -> None:
        """Write a whole file, not yet synced; a link in its place is not followed."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with explained("write", path, len(data)), os.fdopen(os.open(path, flags, 0o666), "wb") as file:
            file.write(data)

    def append(self, path: Path, data: bytes) -> None:
        """Add to the end of a file in one call, so that lines of several processes do not mix."""
        with explained("write", path, len(data)):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o666)
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

    def read(self, path: Path, limit_bytes: int = READ_LIMIT_BYTES) -> bytes:
        """Return the bytes of a plain file, if there are not more; a link is not followed."""
        with explained("read", path):
            return plainfile.read(path, limit_bytes, follow_links=False)

    def sha256(self, path: Path) -> str:
        """Return the digest of a plain file's bytes; a link is not followed."""
        with explained("read", path):
            return plainfile.sha256(path, follow_links=False)

    def files_below(self, folder: Path) -> dict[str, int | None]:
        """Return the size of every file below a folder by relative name; None for what is no plain file."""
        with explained("read", folder):
            return dict(walk(folder, ""))

    def free_bytes(self, folder: Path) -> int:
        """Return the room that is left on the disk of a folder, which need not be there yet."""
        with explained("read", folder):
            return room(folder)


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
