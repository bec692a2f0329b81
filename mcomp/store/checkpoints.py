"""What a step that is not finished has done so far: the last two states, each whole or not at all.

<root>/checkpoints/<key>/<label>/<number>/
  tensors.safetensors
  numbers.json        key and label, environment, numbers, size and sha256 of the tensors, and a digest of
                      all that

Only the holder of a key's lease has a `StepCheckpoints`. They are no results: nothing rests on them but the
time to do the work again, so one that is broken or made elsewhere is said and removed, and one that cannot
be written is said and missed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from mcomp.config import Config
from mcomp.errors import CorruptArtifact, StoreError, named
from mcomp.fingerprint import canonical, fingerprint
from mcomp.signals import deferred
from mcomp.stage import Checkpoint, require_label
from mcomp.store.artifact import Digest, FileEntry
from mcomp.store.lease import temporary_name
from mcomp.store.store import Store

CHECKPOINT_FORMAT: Literal[2] = 2
TENSORS, NUMBERS = "tensors.safetensors", "numbers.json"
NUM_KEPT = 2
NUMBERS_LIMIT_BYTES = 64 * 2**20


class Numbers(Config):
    """The content of `numbers.json`."""

    format: Literal[2]
    key: Digest
    label: str
    environment: dict[str, str]
    numbers: dict[str, Any]
    tensors: FileEntry

    def encoded(self) -> bytes:
        """Return the one text of this content, with its own digest."""
        plain = self.model_dump(mode="json")
        return canonical({"checkpoint": plain, "sha256": fingerprint(plain)}) + b"\n"


class StepCheckpoints:
    """The checkpoints of one key, by label.

    `environment` says, at the moment it is asked, what the bytes depend on beside the key; a state of another
    environment is not gone on with. `tell` is told what was not used, and why.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        environment: Callable[[], Mapping[str, str]],
        tell: Callable[[str], None],
    ) -> None:
        self.store, self.key, self.environment, self.tell = store, key, environment, tell

    def load(self, label: str) -> Checkpoint | None:
        """Return the last state under a label that is whole and was made in this environment, or None."""
        for folder in reversed(numbered(self.folder(label))):
            try:
                return self.read(folder)
            except StoreError as error:
                self.tell(f"the checkpoint {folder} is not used: {error}")
                with suppress(StoreError):
                    self.store.disk.remove(folder)
        return None

    @deferred()
    def save(self, label: str, checkpoint: Checkpoint) -> None:
        """Keep a state and the one before it; when this returns, it is kept, or it was told why not."""
        unfinished = self.store.root / "work" / temporary_name(self.key)
        try:
            self.store.prepare()
            self.write(unfinished, label, checkpoint)
            self.place(unfinished, self.folder(label))
        except StoreError as error:
            self.tell(f"no checkpoint was kept: {error}")
        finally:
            with suppress(StoreError):
                self.store.disk.remove(unfinished)

    def forget(self, label: str) -> None:
        """Remove all states under a label: nothing can be done with them."""
        for folder in numbered(self.folder(label)):
            self.store.disk.remove(folder)

    def folder(self, label: str) -> Path:
        """Return where the states under a label are, or would be."""
        require_label(label)
        return self.store.inside(self.store.checkpoints_folder(self.key) / label / TENSORS).parent

    def write(self, folder: Path, label: str, checkpoint: Checkpoint) -> None:
        """Make a folder with a state, all of it synced."""
        disk = self.store.disk
        tensors = save({name: plain(tensor) for name, tensor in checkpoint.tensors.items()})
        entry = FileEntry(size=len(tensors), sha256=hashlib.sha256(tensors).hexdigest())
        numbers = Numbers(
            format=CHECKPOINT_FORMAT,
            key=self.key,
            label=label,
            environment=dict(self.environment()),
            numbers=dict(checkpoint.numbers),
            tensors=entry,
        )
        disk.mkdir(folder)
        for name, data in ((TENSORS, tensors), (NUMBERS, numbers.encoded())):
            disk.write(folder / name, data)
            disk.sync_file(folder / name)
        disk.sync_folder(folder)

    def place(self, unfinished: Path, folder: Path) -> None:
        """Give a state its number, and remove those it makes superfluous."""
        disk = self.store.disk
        for each in (folder.parent, folder):
            with suppress(FileExistsError):
                disk.mkdir(each)
            disk.sync_folder(each.parent)
        former = numbered(folder)
        number = int(former[-1].name) + 1 if former else 1
        disk.rename(unfinished, folder / f"{number:08d}")
        disk.sync_folder(folder)
        for old in former[: 1 - NUM_KEPT]:
            disk.remove(old)

    def read(self, folder: Path) -> Checkpoint:
        """Return a state. Raises CorruptArtifact if it is not as it was written, or was written elsewhere."""
        numbers = self.read_numbers(folder)
        here = dict(self.environment())
        if numbers.environment != here:
            raise CorruptArtifact(f"it was made elsewhere ({difference(numbers.environment, here)})")
        data = self.store.disk.read(folder / TENSORS, numbers.tensors.size)
        if hashlib.sha256(data).hexdigest() != numbers.tensors.sha256:
            raise CorruptArtifact(f"{TENSORS} has other bytes than were written")
        try:
            return Checkpoint(load(data), numbers.numbers)
        except (SafetensorError, ValueError, TypeError, RuntimeError) as error:
            raise CorruptArtifact(f"{TENSORS} is no safetensors file of this version") from error

    def read_numbers(self, folder: Path) -> Numbers:
        """Return the content of `numbers.json`, checked against the files' sizes and where it lies."""
        if folder.is_symlink():
            raise CorruptArtifact("it is a link")
        sizes = self.store.disk.files_below(folder)
        if sizes.keys() != {TENSORS, NUMBERS} or (sizes[NUMBERS] or 0) > NUMBERS_LIMIT_BYTES:
            raise CorruptArtifact("its files are not the ones that were written")
        data = self.store.disk.read(folder / NUMBERS)
        try:
            numbers = Numbers.model_validate(json.loads(data)["checkpoint"])
            is_whole = numbers.encoded() == data
        except (ValidationError, ValueError, RecursionError, KeyError, TypeError) as error:
            raise CorruptArtifact(f"{NUMBERS} is not of this version") from error
        if not is_whole:
            raise CorruptArtifact(f"{NUMBERS} has other bytes than were written")
        if (numbers.key, numbers.label) != (self.key, folder.parent.name):
            whose = named(f"{numbers.key[:12]}/{numbers.label}")
            raise CorruptArtifact(f"it is a state of {whose}")
        if sizes[TENSORS] != numbers.tensors.size:
            raise CorruptArtifact(f"{TENSORS} has {sizes[TENSORS]} bytes instead of {numbers.tensors.size}")
        return numbers


def numbered(folder: Path) -> list[Path]:
    """Return the states in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"\d{8}", path.name))


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor as it is stored: on the CPU, contiguous, and sharing no memory with another."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def difference(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Return in words what differs between two environments."""
    names = [name for name in sorted({*there, *here}) if there.get(name) != here.get(name)]
    return ", ".join(
        named(f"{name} {there.get(name, 'unknown')}, here {here.get(name, 'unknown')}") for name in names
    )
