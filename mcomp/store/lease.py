"""One key, one worker at a time. The kernel frees the lock of a process that dies, however it dies.

Nothing rests on it but cost: two workers of one key publish the same result, and one of them is dropped.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from mcomp import plainfile
from mcomp.errors import named
from mcomp.store.disk import Disk, explained

NOTE_LIMIT_BYTES = 4096
CLAIM = "claim"
CLAIM_SECONDS = 10.0


@contextmanager
def hold(disk: Disk, folder: Path, key: str, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of `key`; if another process has it, say so once through `on_wait` and wait."""
    path, holder = folder / f"{key}.lock", folder / f"{key}.json"
    lock = FileLock(path)
    with explained("lock", path):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            on_wait(f"waiting for {described(holder)}, which works on {key[:12]}")
            lock.acquire()
    with noted(disk, lock, holder):
        yield


@contextmanager
def hold_if_free(disk: Disk, folder: Path, name: str) -> Iterator[bool]:
    """Hold the lock of a name, and say whether it was free; if another holder has it, nothing is held."""
    path = folder / f"{name}.lock"
    lock = FileLock(path)
    with explained("lock", path), suppress(Timeout):
        lock.acquire(blocking=False)
    if not lock.is_locked:
        yield False
        return
    with noted(disk, lock, folder / f"{name}.json"):
        yield True


@contextmanager
def claim(folder: Path) -> Iterator[bool]:
    """Hold, for a moment, the lock under which runs say what they need, and cleaners look and take away.

    Without it a run could find a result after a cleaner saw that nobody needs it, and before it went. Says
    whether it is held: whoever has it reads and writes a few small files, and one that does not give it back,
    because it was stopped, is not waited for. A run goes on without it, a cleaner does not.
    """
    path = folder / f"{CLAIM}.lock"
    lock = FileLock(path)
    with explained("lock", path), suppress(Timeout):
        lock.acquire(timeout=CLAIM_SECONDS)
    try:
        yield lock.is_locked
    finally:
        lock.release()


@contextmanager
def noted(disk: Disk, lock: FileLock, holder: Path) -> Iterator[None]:
    """Write down who has taken a lock; release it at the end."""
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holding = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        disk.write(holder, json.dumps(holding).encode())
        yield
    finally:
        lock.release()


def is_held(folder: Path, name: str) -> bool:
    """Return whether somebody holds the lock of a name now; nothing is made by looking."""
    path = folder / f"{name}.lock"
    if not path.exists():
        return False
    try:
        with FileLock(path, blocking=False):
            return False
    except Timeout:
        return True
    except OSError:
        return False  # a store that may only be read is locked by nobody


def described(holder: Path) -> str:
    """Return who holds a lease, as far as is known: the note is written after the lock is taken."""
    try:
        note = json.loads(plainfile.read(holder, NOTE_LIMIT_BYTES, follow_links=False))
        return named(f"process {note['pid']} on {note['host']} (since {note['since']})")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"


def temporary_name(key: str) -> str:
    """Return a fresh name for something unfinished of `key`, from which its owner can be told."""
    pid = os.getpid()
    return f"{key}-{pid}-{start_of(pid)}-{os.urandom(4).hex()}"


def is_left_behind(name: str, key: str | None = None) -> bool:
    """Return whether a name is that of something unfinished, of `key` if given, whose process is gone."""
    match = re.fullmatch(r"(.+)-(\d{1,9})-(\d{1,20})-[0-9a-f]{8}", name)
    if match is None or key not in (None, match[1]):
        return False
    pid, then = int(match[2]), int(match[3])
    # Numbers are given again: the first process of every container has the same one.
    now = start_of(pid)
    return not is_alive(pid) or (now != then and 0 not in (now, then))


def start_of(pid: int) -> int:
    """Return when a process started, in ticks since this machine did; 0 where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(text.rpartition(b")")[2].split()[19])  # the name before may hold anything


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
