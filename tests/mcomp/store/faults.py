"""A disk that fails at a chosen effect: killed before or after it, torn, full, faulty or forbidden."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mcomp.store.disk import Disk, explained

READS = ("read", "sha256", "files_below")
EFFECTS = ("write", "append", "sync_file", "sync_folder", "mkdir", "rename", "replace", "remove", *READS)


class Killed(BaseException):
    """What a process would not live to see: nothing may catch it."""


class FaultyDisk(Disk):
    """Does everything, but effect number `position` meets `fault`; after a kill nothing is done any more."""

    def __init__(self, fault: str = "", position: int = -1) -> None:
        self.fault, self.position = fault, position
        self.effects: list[str] = []
        self.is_dead = False

    def meet(self, name: str, path: Path, rest: tuple[Any, ...]) -> Any:
        if self.is_dead:
            raise Killed
        self.effects.append(name)
        if len(self.effects) - 1 == self.position:
            FAULTS[self.fault](self, name, path, rest)
        if name.startswith("sync"):
            return None  # what a sync is for is shown by the power cuts; here it would only take time
        return getattr(Disk, name)(self, path, *rest)


def effect(name: str) -> Callable[..., Any]:
    return lambda self, path, *rest: self.meet(name, path, rest)


for _name in EFFECTS:
    setattr(FaultyDisk, _name, effect(_name))


def killed(disk: FaultyDisk, name: str, path: Path, rest: tuple[Any, ...]) -> None:
    disk.is_dead = True
    raise Killed


def torn(disk: FaultyDisk, name: str, path: Path, rest: tuple[Any, ...]) -> None:
    """A write or a removal that stops in the middle; an effect that is whole is followed by the kill."""
    if name in ("write", "append"):
        getattr(Disk, name)(disk, path, rest[0][: len(rest[0]) // 2])
    elif name == "remove" and path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.is_file())
        for each in files[: -(-len(files) // 2)]:
            each.unlink()
    else:
        getattr(Disk, name)(disk, path, *rest)
    killed(disk, name, path, rest)


def failing(number: int) -> Callable[..., None]:
    def fail(disk: FaultyDisk, name: str, path: Path, rest: tuple[Any, ...]) -> None:
        if name in ("write", "append"):
            getattr(Disk, name)(disk, path, rest[0][: len(rest[0]) // 2])
        with explained(name, path):
            raise OSError(number, os.strerror(number))

    return fail


FAULTS: dict[str, Callable[..., None]] = {
    "kill": killed,
    "torn": torn,
    "full": failing(errno.ENOSPC),
    "io": failing(errno.EIO),
    "forbidden": failing(errno.EACCES),
}
