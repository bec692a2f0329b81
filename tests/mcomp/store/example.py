"""Two results, a figure and a ledger, and what must be true of a store whatever happened to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mcomp.fingerprint import fingerprint
from mcomp.store.artifact import Artifact
from mcomp.store.disk import Disk
from mcomp.store.ledger import Ledger
from mcomp.store.store import Store

FILES = {
    "report.json": b'{"loss": 0.5}',
    "model/weights.safetensors": bytes(range(256)) * 4,
    "files/a.bin": b"abc",
}
ABOUT = {"environment": {"torch": "2.13"}, "seconds": 1.5}


def key_json(name: str) -> dict[str, Any]:
    return {"stage": name, "seed": 0}


def key(name: str) -> str:
    return fingerprint(key_json(name))


def content(disk: Disk, folder: Path, name: str) -> Path:
    """Write the files of a step as a stage does: nothing is synced."""
    disk.mkdir(folder / "content")
    disk.mkdir(folder / "content" / "model")
    disk.mkdir(folder / "content" / "files")
    for file, data in FILES.items():
        disk.write(folder / "content" / file, name.encode() + data)
    return folder / "content"


def publish(store: Store, name: str) -> Artifact:
    with store.workspace(key(name)) as folder:
        return store.publish(key(name), key_json(name), content(Disk(), folder, name), ABOUT)


def is_whole(artifact: Artifact, name: str) -> bool:
    held = {each: artifact.file(each).read_bytes() for each in artifact.names()}
    return held == {file: name.encode() + data for file, data in FILES.items()} and artifact.about == ABOUT


def ledger(status: str) -> Ledger:
    plain = {"mcomp": "0", "run": "r", "recipe": "tiny", "started": "now", "status": status, "rows": ()}
    return Ledger.model_validate({**plain, "metric": "accuracy", "direction": "higher", "machine": {}})
