"""What a disk may hold after a power cut: what was synced, and any part of what was not.

The model: a file's bytes are safe after `sync_file`, a name in a folder (made, renamed or removed) after
`sync_folder` of that folder; anything else may or may not have happened, in any combination. A rename happens
whole or not at all, as on every journaling file system; a folder is removed file by file. Names in work/ mean
nothing after it: they are safe, unless they took one away from somewhere else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from mcomp.store.disk import Disk

ALL_SUBSETS_UP_TO = 5  # open changes; the `slow` tests try all of all: there are at most 11 at once
NO_LIMIT = 99


class RecordingDisk(Disk):
    """Does everything, and writes down what it did; `done` adds a label to the record."""

    def __init__(self) -> None:
        self.trace: list[tuple[Any, ...]] = []

    def done(self, label: str) -> None:
        self.trace.append(("done", label))

    def write(self, path: Path, data: bytes) -> None:
        super().write(path, data)
        self.trace.append(("write", path, data))

    def sync_file(self, path: Path) -> None:
        self.trace.append(("sync_file", path))

    def sync_folder(self, path: Path) -> None:
        self.trace.append(("sync_folder", path))

    def mkdir(self, path: Path) -> None:
        super().mkdir(path)
        self.trace.append(("mkdir", path))

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.trace.append(("move", source, target))

    def replace(self, source: Path, target: Path) -> None:
        super().replace(source, target)
        self.trace.append(("move", source, target))

    def remove(self, path: Path) -> None:
        super().remove(path)
        self.trace.append(("remove", path))


@dataclass(eq=False)
class File:
    """`safe` is what is surely on the disk, `now` what the processes see."""

    safe: bytes = b""
    now: bytes = b""


@dataclass(eq=False)
class Folder:
    names: dict[str, File | Folder] = field(default_factory=dict)


Node = File | Folder


@dataclass(eq=False)
class Change:
    """A name of `folder` comes to mean `node` (None: it is removed); a move takes it from somewhere else."""

    folder: Folder
    name: str
    node: Node | None
    source: tuple[Folder, str] | None = None
    is_safe: bool = False

    def apply_to(self, names_in: Callable[[Folder], dict[str, Node]]) -> None:
        """Let the names change; what this change rests on may be lost."""
        if self.source is not None and names_in(self.source[0]).get(self.source[1]) is self.node:
            names_in(self.source[0]).pop(self.source[1])
        names_in(self.folder).pop(self.name, None)
        if self.node is not None:
            names_in(self.folder)[self.name] = self.node


class Machine:
    """The disk as the processes see it, and the list of changes by which it came to be."""

    def __init__(self, top: Path) -> None:
        self.top, self.root = top, Folder()
        self.changes: list[Change] = []
        self.files: list[File] = []

    def parent(self, path: Path) -> Folder:
        node: Node = self.root
        for name in path.parent.relative_to(self.top).parts:
            assert isinstance(node, Folder)
            node = node.names[name]
        assert isinstance(node, Folder)
        return node

    def change(self, path: Path, node: Node | None, source: Path | None = None) -> None:
        is_safe = self.is_scratch(path.parent) and (source is None or self.is_scratch(source.parent))
        start = None if source is None else (self.parent(source), source.name)
        self.changes.append(Change(self.parent(path), path.name, node, start, is_safe))
        self.changes[-1].apply_to(lambda folder: folder.names)

    def is_scratch(self, folder: Path) -> bool:
        place = folder.relative_to(self.top).parts
        return place[1:2] == ("work",) and len(place) <= 3

    def has_unsafe_names(self, path: Path) -> bool:
        return any(change.folder is self.folder(path) and not change.is_safe for change in self.changes)

    def folder(self, path: Path) -> Node:
        return self.root if path == self.top else self.parent(path).names[path.name]

    def do(self, name: str, *arguments: Any) -> None:
        getattr(self, name)(*arguments)

    def write(self, path: Path, data: bytes) -> None:
        folder = self.parent(path)
        file = folder.names.get(path.name)
        if not isinstance(file, File):
            file = File()
            self.files.append(file)
            self.change(path, file)
        file.now = data

    def sync_file(self, path: Path) -> None:
        file = self.parent(path).names[path.name]
        assert isinstance(file, File)
        file.safe = file.now

    def sync_folder(self, path: Path) -> None:
        for change in self.changes:
            change.is_safe = change.is_safe or change.folder is self.folder(path)

    def mkdir(self, path: Path) -> None:
        self.change(path, Folder())

    def move(self, source: Path, target: Path) -> None:
        self.change(target, self.parent(source).names[source.name], source)

    def remove(self, path: Path) -> None:
        node = self.parent(path).names.get(path.name)
        for name in list(node.names) if isinstance(node, Folder) else ():
            self.remove(path / name)
        if node is not None:
            self.change(path, None)

    def after_cut(self) -> Iterator[dict[str, bytes | None]]:
        """Yield what may be on the disk: bytes by path, None for a folder."""
        unsafe = [number for number, change in enumerate(self.changes) if not change.is_safe]
        for lost in map(set, subsets(unsafe)):
            names: dict[Folder, dict[str, Node]] = defaultdict(dict)
            for number, change in enumerate(self.changes):
                if number not in lost:
                    change.apply_to(names.__getitem__)
            for survives in (whole, half, none):
                yield dict(listing(self.root, "", names, survives))


def subsets(unsafe: list[int]) -> Iterator[tuple[int, ...]]:
    """Yield which changes are lost: every combination of a few; of many none, all, each, and all but each."""
    count = len(unsafe)
    for size in range(count + 1) if count <= ALL_SUBSETS_UP_TO else (0, 1, count - 1, count):
        yield from combinations(unsafe, size)


def whole(file: File) -> bytes:
    return file.now


def half(file: File) -> bytes:
    return file.now if file.now == file.safe else file.now[: len(file.now) // 2]


def none(file: File) -> bytes:
    return file.safe


def listing(
    folder: Folder, prefix: str, names: dict[Folder, dict[str, Node]], survives: Callable[[File], bytes]
) -> Iterator[tuple[str, bytes | None]]:
    for name, node in names[folder].items():
        if isinstance(node, File):
            yield prefix + name, survives(node)
        else:
            yield prefix + name, None
            yield from listing(node, f"{prefix}{name}/", names, survives)


@dataclass(frozen=True)
class State:
    """What may be on the disk after a cut, and the labels that were reached before it."""

    done: frozenset[str]
    content: frozenset[tuple[str, bytes | None]]


def states(trace: Sequence[tuple[Any, ...]], top: Path) -> Iterator[State]:
    """Yield every state that a cut of the trace may leave, some of them more than once."""
    machine, labels = Machine(top), frozenset({"start"})
    for name, *arguments in trace:
        if name == "done":
            labels |= {arguments[0]}
        else:
            machine.do(name, *arguments)
        yield from (State(labels, frozenset(content.items())) for content in machine.after_cut())
