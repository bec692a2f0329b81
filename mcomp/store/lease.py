"""One key, one worker at a time. The kernel frees the lock of a process that dies, however it dies.

Nothing rests on it but cost: two workers of one key publish the same result, and one of them is dropped.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from mcomp.store.disk import Disk, explained


@contextmanager
def hold(disk: Disk, folder: Path, key: str, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of `key`; if another process has it, say so once through `on_wait` and wait."""
    path, holder = folder / f"{key}.lock", folder / f"{key}.json"
    lock = FileLock(path)
    with explained("lock", path):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            on_wait(f"waiting for {key[:12]}: {described(holder)} works on it")
            lock.acquire()
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holding = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        disk.write(holder, json.dumps(holding).encode())
        yield
    finally:
        lock.release()


def described(holder: Path) -> str:
    """Return who holds a lease, as far as is known: the note is written after the lock is taken."""
    try:
        note = json.loads(holder.read_bytes())
        return f"process {note['pid']} on {note['host']} (since {note['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def temporary_name(key: str) -> str:
    """Return a fresh name for something unfinished of `key`, from which its owner can be told."""
    return f"{key}-{os.getpid()}-{os.urandom(4).hex()}"


def is_left_behind(name: str, key: str) -> bool:
    """Return whether a name is that of something unfinished of `key` whose process is gone."""
    match = re.fullmatch(rf"{key}-(\d{{1,9}})-[0-9a-f]{{8}}", name)
    return match is not None and not is_alive(int(match[1]))


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
