"""What an attack does to the rest of the machine: seen by an audit hook, and by the kernel.

Python's hook sees nothing of what native code opens (ONNX Runtime, safetensors, torch). So the files that
must not be opened lie in one folder, and the kernel tells of everything that is opened, read or changed
there.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import sys
from pathlib import Path
from typing import Any

# Python itself, what is installed in it, and mcomp's own sources.
OWN = [sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]), *filter(None, sys.path)]
# Where the process looks at itself and its machine, and when one started that left something in a store.
HARMLESS = re.compile(r"/proc/self/|/proc/cpuinfo$|/sys/|/dev/null$|/proc/\d+/stat$")
LEAVES = (
    "subprocess",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.spawn",
    "socket",
    "ctypes",
    "pty",
)
CHANGES = (
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.truncate",
    "shutil",
)
OF_ITS_OWN = ("socket.gethostname",)  # who holds a lease
NEVER = ("os.putenv", "os.unsetenv", "pickle.find_class")
# Pickles that mcomp made itself in this process (mcomp.recipe.variants).
OWN_PICKLES = ("omegaconf", "collections", "builtins", "copyreg", "typing", "mcomp")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Watch:
    """What one attack did that it must not do. `writes`: whether it may change things in its folder."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.writes = False
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note an event; called by the interpreter."""
        if self.folder is not None and self.is_bad(event, arguments):
            self.seen.append(f"{event} {arguments!r}")

    def is_bad(self, event: str, arguments: tuple[Any, ...]) -> bool:
        """Return whether nothing of the kind may happen."""
        if event.startswith(CHANGES):
            paths = [each for each in arguments if isinstance(each, str | bytes | os.PathLike)]
            return not (self.writes and all(map(self.is_inside, paths)))
        if event == "open":
            return isinstance(arguments[0], str | bytes) and not self.may_open(*arguments)
        if event == "pickle.find_class":
            return not str(arguments[0]).startswith(OWN_PICKLES)
        return event.startswith((*LEAVES, *NEVER)) and event not in OF_ITS_OWN

    def may_open(self, path: str | bytes, mode: str | None, flags: int) -> bool:
        """Return whether a file may be opened: the attack's own, or to read one of the installed ones."""
        if self.is_inside(path):
            return self.writes or not flags & WRITING
        place = os.path.abspath(os.fsdecode(path))
        is_installed = any(place.startswith(f"{root}{os.sep}") for root in OWN)
        return (is_installed or HARMLESS.match(place) is not None) and not flags & WRITING

    def is_inside(self, path: str | bytes | os.PathLike[Any]) -> bool:
        """Return whether a path is of the attack's folder; links are the other watch's."""
        place = os.path.abspath(os.fsdecode(path))
        return place == str(self.folder) or place.startswith(f"{self.folder}{os.sep}")


ACCESS, MODIFY, OPEN, MOVED, CREATE, DELETE = 0x1, 0x2, 0x20, 0xC0, 0x100, 0x200
HEADER = struct.Struct("iIII")


class Tripwire:
    """Tells what was opened, read or changed in a folder and those below it, by whatever code (Linux)."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = libc.inotify_init1(os.O_NONBLOCK)
        self.folders = {}
        for each in (folder, *filter(Path.is_dir, folder.rglob("*"))):
            mask = ACCESS | MODIFY | OPEN | MOVED | CREATE | DELETE
            number = libc.inotify_add_watch(self.descriptor, os.fsencode(each), mask)
            if number < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(each))
            self.folders[number] = each

    def seen(self) -> list[str]:
        """Return what happened since this was last asked."""
        found: list[str] = []
        while data := self.read():
            while data:
                watch, _, _, length = HEADER.unpack_from(data)
                name = data[HEADER.size : HEADER.size + length].rstrip(b"\0")
                found.append(str(self.folders[watch] / os.fsdecode(name)))
                data = data[HEADER.size + length :]
        return sorted(set(found))

    def read(self) -> bytes:
        """Return the next events of the kernel."""
        try:
            return os.read(self.descriptor, 2**16)
        except BlockingIOError:
            return b""
