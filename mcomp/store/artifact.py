"""A published result: a folder whose name appears only when all its bytes are on the disk.

<key>/
  manifest.json   format, key, how it was made, size and sha256 of every file, and a digest of all that
  key.json        everything the result depends on; its sha256 is the key
  ...             the files
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from mcomp.config import Config
from mcomp.errors import CorruptArtifact, StoreError, named
from mcomp.fingerprint import canonical, fingerprint
from mcomp.store.disk import Disk, explained

STORE_FORMAT: Literal[1] = 1
MANIFEST, KEY = "manifest.json", "key.json"
MANIFEST_LIMIT_BYTES = 64 * 2**20

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Checked = set[tuple[str, int, int, int]]


class FileEntry(Config):
    """What the bytes of one file must be."""

    size: Annotated[int, Field(ge=0)]
    sha256: Digest


class Manifest(Config):
    """The content of an artifact, by relative name, and `about`: environment, versions, facts."""

    store_format: Literal[1]
    key: Digest
    about: dict[str, Any]
    files: dict[str, FileEntry]

    def encoded(self) -> bytes:
        """Return the one text of this manifest, with its own digest: a flipped bit anywhere shows."""
        plain = self.model_dump(mode="json")
        return canonical({"manifest": plain, "sha256": fingerprint(plain)}) + b"\n"


def decoded(data: bytes) -> Manifest:
    """Read a manifest. Raises ValueError if one byte is not as it was written."""
    try:
        manifest = Manifest.model_validate(json.loads(data)["manifest"])
    except (ValidationError, RecursionError, KeyError, TypeError) as error:
        raise ValueError("not a manifest of this version") from error
    if manifest.encoded() != data:
        raise ValueError("its bytes are not the ones that were written")
    return manifest


@dataclass(frozen=True)
class Artifact:
    """A result whose manifest, key and sizes were checked; the bytes of a file are checked when it is used.

    `checked` remembers the files whose bytes were hashed, by path, inode, size and time; `on_corrupt` is told
    before CorruptArtifact is raised.
    """

    key: str
    folder: Path
    manifest: Manifest
    disk: Disk = field(repr=False)
    on_corrupt: Callable[[str], None] = field(repr=False)
    checked: Checked = field(repr=False)

    @property
    def about(self) -> dict[str, Any]:
        """What was recorded when the result was made."""
        return self.manifest.about

    def names(self) -> list[str]:
        """Return the relative names of the files, sorted."""
        return sorted(self.manifest.files)

    def size_bytes(self, folder: str) -> int:
        """Return the bytes of all files below a folder in the artifact."""
        return sum(entry.size for name, entry in self.manifest.files.items() if name.startswith(f"{folder}/"))

    def file(self, name: str) -> Path:
        """Return the path of one file, hashed the first time it is used. Raises CorruptArtifact."""
        if name not in self.manifest.files:
            held = ", ".join(self.names()) or "nothing"
            raise StoreError(f"{self.folder} has no file {name}; it holds {held}")
        path = self.folder / name
        wrong = self.misfit(path, self.manifest.files[name])
        if wrong:
            self.on_corrupt(f"{name} {wrong}")
            raise CorruptArtifact(f"{path} {wrong}; it was set aside: run again to make it anew")
        return path

    def verified(self, folder: str) -> Path:
        """Return the path of a folder in the artifact, every file below it hashed. Raises CorruptArtifact."""
        names = [name for name in self.names() if name.startswith(f"{folder}/")]
        if not names:
            raise StoreError(f"{self.folder} has no folder {folder}; it holds {', '.join(self.names())}")
        for name in names:
            self.file(name)
        return self.folder / folder

    def misfit(self, path: Path, entry: FileEntry) -> str:
        """Return what is wrong with a file, or ""."""
        with explained("read", path):
            try:
                state = path.lstat()
            except FileNotFoundError:
                return "is missing"
        if not stat.S_ISREG(state.st_mode):
            return "is missing"
        seen = (str(path), state.st_ino, state.st_size, state.st_mtime_ns)
        if seen in self.checked:
            return ""
        if state.st_size != entry.size:
            return f"has {state.st_size} bytes instead of {entry.size}"
        if self.disk.sha256(path) != entry.sha256:
            return "has other bytes than were published"
        self.checked.add(seen)
        return ""


def seal(disk: Disk, folder: Path, key: str, key_json: Any, about: dict[str, Any]) -> None:
    """Make a folder of files an artifact: hash and sync the files, write the key and, last, the manifest."""
    sizes = disk.files_below(folder)
    for name, size in sizes.items():
        if size is None or name in (MANIFEST, KEY):
            raise StoreError(f"{folder / name} cannot be published: not a plain file, or a name of ours")
    files = {}
    for name in sorted(sizes):
        disk.sync_file(folder / name)
        files[name] = FileEntry(size=sizes[name] or 0, sha256=disk.sha256(folder / name))
    manifest = Manifest(store_format=STORE_FORMAT, key=key, about=about, files=files)
    for name, data in ((KEY, canonical(key_json)), (MANIFEST, manifest.encoded())):
        disk.write(folder / name, data)
        disk.sync_file(folder / name)
    for inner in (folder, *filter(Path.is_dir, folder.rglob("*"))):
        disk.sync_folder(inner)


def inspect(disk: Disk, folder: Path, key: str, key_json: Any) -> Manifest:
    """Check all of an artifact but the bytes of its files, and return its manifest. Raises CorruptArtifact.

    `key_json` None: that the stored key has the digest `key` is proof enough.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise CorruptArtifact("is not a folder")
    sizes = disk.files_below(folder)
    for name in (MANIFEST, KEY):
        if (sizes.get(name) or MANIFEST_LIMIT_BYTES + 1) > MANIFEST_LIMIT_BYTES:
            raise CorruptArtifact(f"{name} is missing, empty, too large or no plain file")
    try:
        manifest = decoded(disk.read(folder / MANIFEST))
    except ValueError as error:
        raise CorruptArtifact(f"{MANIFEST}: {error}") from error
    stored_key = disk.read(folder / KEY)
    if manifest.key != key or hashlib.sha256(stored_key).hexdigest() != key:
        raise CorruptArtifact("it is the result of another key")
    if key_json is not None and stored_key != canonical(key_json):
        raise CorruptArtifact("its key has the same digest, but it depends on other things")
    require_sizes(manifest, sizes)
    return manifest


def require_sizes(manifest: Manifest, sizes: dict[str, int | None]) -> None:
    """Raise CorruptArtifact unless the folder holds the manifest's files, of their sizes, and no others."""
    expected = {name: entry.size for name, entry in manifest.files.items()}
    found = {name: size for name, size in sizes.items() if name not in (MANIFEST, KEY)}
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise CorruptArtifact(f"{named(name)} is missing")
        if name not in expected:
            raise CorruptArtifact(f"{named(name)} was added")
        if found[name] != expected[name]:
            raise CorruptArtifact(f"{named(name)} has {found[name]} bytes instead of {expected[name]}")
