"""Files as they come from a person or a store: plain ones only, and no more of them than was asked for.

A pipe that nobody writes to is not waited for, and a device that never ends is not read.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def opened(path: Path, *, follow_links: bool = True) -> Iterator[io.BufferedReader]:
    """Open a plain file for reading. Raises OSError for anything else, and for a link if none is followed."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        yield file


def read(path: Path, limit_bytes: int, *, follow_links: bool = True) -> bytes:
    """Return the bytes of a plain file. Raises OSError as `opened` does, and if there are more."""
    with opened(path, follow_links=follow_links) as file:
        # By what the file says first: a hole of a terabyte is a small file on the disk.
        size_bytes = os.fstat(file.fileno()).st_size
        content = file.read(limit_bytes + 1) if size_bytes <= limit_bytes else b""
        if max(size_bytes, len(content)) > limit_bytes:
            raise OSError(errno.EFBIG, f"it is larger than {limit_bytes:,} bytes", str(path))
        return content


def sha256(path: Path, *, follow_links: bool = True) -> str:
    """Return the digest of a plain file's bytes. Raises OSError as `opened` does."""
    with opened(path, follow_links=follow_links) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
