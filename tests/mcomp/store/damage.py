"""What can happen to the bytes of a store: chosen changes of a result, and random ones of any file."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from mcomp.fingerprint import canonical, fingerprint
from mcomp.store.artifact import KEY, MANIFEST
from tests.mcomp.store.example import key, key_json


def rewrite_manifest(folder: Path, **changes: object) -> None:
    plain = json.loads((folder / MANIFEST).read_bytes())["manifest"] | changes
    (folder / MANIFEST).write_bytes(canonical({"manifest": plain, "sha256": fingerprint(plain)}) + b"\n")


def flip_in(name: str) -> Callable[[Path], None]:
    def flip(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 4
        (folder / name).write_bytes(bytes(data))

    return flip


def other_key(folder: Path) -> None:
    (folder / KEY).write_bytes(canonical(key_json("other")))


def resealed_other_key(folder: Path) -> None:
    other_key(folder)
    rewrite_manifest(folder, key=key("other"))


def escaping_name(folder: Path) -> None:
    (folder.parent / "outside").write_bytes(b"x")
    entry = {"size": 1, "sha256": fingerprint("x")}
    rewrite_manifest(folder, files={"../outside": entry})


def link(folder: Path) -> None:
    data = (folder / "report.json").read_bytes()
    (folder.parent / "elsewhere").write_bytes(data)
    (folder / "report.json").unlink()
    (folder / "report.json").symlink_to(folder.parent / "elsewhere")


def linked_folder(folder: Path) -> None:
    shutil.move(folder, folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


def swap(folder: Path) -> None:
    (folder / "report.json").rename(folder / "x")
    (folder / "files/a.bin").rename(folder / "report.json")
    (folder / "x").rename(folder / "files/a.bin")


def hole(folder: Path) -> None:
    path = folder / "model/weights.safetensors"
    path.write_bytes(path.read_bytes()[:100] + bytes(400) + path.read_bytes()[500:])


def pipe(folder: Path) -> None:
    (folder / "report.json").unlink()
    os.mkfifo(folder / "report.json")


# Every way in which a published result can be changed. The first group shows on a hit, the second on use.

SEEN_ON_A_HIT: dict[str, Callable[[Path], None]] = {
    "a flipped bit in the manifest": flip_in(MANIFEST),
    "a flipped bit in the key": flip_in(KEY),
    "a manifest that is no JSON": lambda folder: (folder / MANIFEST).write_bytes(b"{"),
    "a manifest nested too deep": lambda folder: (folder / MANIFEST).write_bytes(b"[" * 100_000),
    "a manifest of another format": lambda folder: rewrite_manifest(folder, store_format=2),
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "an empty manifest": lambda folder: (folder / MANIFEST).write_bytes(b""),
    "the key of another result": other_key,
    "another result": resealed_other_key,
    "a name outside": escaping_name,
    "a link for a file": link,
    "a link for the folder": linked_folder,
    "a pipe for a file": pipe,
    "a truncated file": lambda folder: (folder / "report.json").write_bytes(b"{"),
    "a missing file": lambda folder: (folder / "files/a.bin").unlink(),
    "an extra file": lambda folder: (folder / "files/b.bin").write_bytes(b""),
    "swapped files": swap,
}
SEEN_ON_USE: dict[str, Callable[[Path], None]] = {
    "a flipped bit": flip_in("model/weights.safetensors"),
    "a hole of zeros": hole,
}


# Random changes. Each returns the files it changed; bytes go to new files, so that hard links stay.


def put(path: Path, data: bytes) -> list[Path]:
    path.unlink()
    path.write_bytes(data)
    return [path]


def random_flip(files: list[Path], chance: random.Random) -> list[Path]:
    path = chance.choice(files)
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return put(path, bytes(data))


def random_truncation(files: list[Path], chance: random.Random) -> list[Path]:
    path = chance.choice(files)
    data = path.read_bytes()
    return put(path, data[: chance.randrange(len(data))])


def random_hole(files: list[Path], chance: random.Random) -> list[Path]:
    path = chance.choice(files)
    data = path.read_bytes()
    while True:
        start, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        if any(data[start:end]):
            return put(path, data[:start] + bytes(end - start) + data[end:])


def random_swap(files: list[Path], chance: random.Random) -> list[Path]:
    while True:
        first, second = chance.sample(files, 2)
        contents = first.read_bytes(), second.read_bytes()
        if contents[0] != contents[1]:
            return put(first, contents[1]) + put(second, contents[0])


def random_extra(files: list[Path], chance: random.Random) -> list[Path]:
    """A file that was not there, beside one of a result or a state."""
    beside = chance.choice(
        [path for path in files if "artifacts" in path.parts or "checkpoints" in path.parts]
    )
    extra = beside.with_name(f"{beside.name}.{chance.randrange(1000)}")
    extra.write_bytes(chance.randbytes(chance.randrange(20)))
    return [extra]
