"""Digests of files outside of the store, so that a command need not read all data again.

<root>/digests/<xx>.json   the files of one folder, and a digest of all that; <xx> is a digest of its path
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from mcomp.config import Config
from mcomp.data.digests import DIGESTS, Digests, Entry
from mcomp.errors import CorruptArtifact, StoreError
from mcomp.fingerprint import fingerprint
from mcomp.store.artifact import Digest
from mcomp.store.disk import Disk
from mcomp.store.lease import temporary_name
from mcomp.store.sealed import sealed, unsealed
from mcomp.store.store import Store

FOLDER = "digests"


class Remembered(Config):
    """The content of one file of digests."""

    folder: str
    files: dict[str, tuple[int, int, int, int, Digest]]


class StoredDigests(Digests):
    """Digests that a store remembers; only time is lost if it cannot."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.kept: dict[Path, dict[str, Entry]] = {}

    def read(self, folder: Path) -> dict[str, Entry]:
        """Return what the store remembers of a folder; what is broken is told, and counts as nothing."""
        found: dict[str, Entry] = {}
        path = self.file(folder)
        try:
            if path.is_file():
                files = read_digests(self.store.disk, path).files
                found = {name: Entry(*entry) for name, entry in files.items()}
        except CorruptArtifact as error:
            self.store.on_problem(f"{path} is broken ({error}): the files are read again")
        except StoreError as error:
            self.store.on_problem(str(error))
        self.kept[folder] = dict(found)
        return found

    def keep(self) -> None:
        """Remember what was read, if there is a store; what is not there any more is forgotten."""
        with suppress(StoreError):
            if not self.store.require_format():
                return
            for folder, known in self.folders.items():
                if known != self.kept[folder] and is_text(str(folder)):
                    self.write(folder, {name: known[name] for name in known if (folder / name).exists()})

    def write(self, folder: Path, known: dict[str, Entry]) -> None:
        """Put what is known of a folder in the place of what was."""
        self.store.make_folder(self.store.root / FOLDER)
        files = {name: list(known[name]) for name in sorted(filter(is_text, known))}
        work = self.store.root / "work" / temporary_name(FOLDER)
        self.store.disk.put(self.file(folder), sealed({"folder": str(folder), "files": files}), work)
        self.kept[folder] = dict(known)

    def file(self, folder: Path) -> Path:
        """Return where the digests of a folder's files are, or would be."""
        return self.store.inside(self.store.root / FOLDER / f"{fingerprint(str(folder))}.json")


def is_text(name: str) -> bool:
    """Return whether a path is text at all: names are bytes, and JSON holds none."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_digests(disk: Disk, path: Path) -> Remembered:
    """Return what a file of digests says. Raises CorruptArtifact if it is not as it was written."""
    try:
        plain = unsealed(disk.read(path))
        remembered = Remembered.model_validate_json(json.dumps(plain))
    except (ValueError, ValidationError) as error:
        raise CorruptArtifact("its bytes are not those that this version wrote") from error
    if fingerprint(remembered.folder) != path.stem:
        raise CorruptArtifact("it is that of another folder")
    return remembered


@contextmanager
def digests_in(store: Store) -> Iterator[StoredDigests]:
    """Let the store remember the digests that the block asks for."""
    digests = StoredDigests(store)
    token = DIGESTS.set(digests)
    try:
        yield digests
    finally:
        DIGESTS.reset(token)
        digests.keep()
