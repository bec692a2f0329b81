"""Two results, a figure and a ledger, and what must be true of a store whatever happened to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mcomp.fingerprint import fingerprint
from mcomp.store.artifact import Artifact
from mcomp.store.disk import Disk
from mcomp.store.ledger import Ledger
from mcomp.store.runs import Run
from mcomp.store.store import Store
from mcomp.store.sweeps import SweepFolder, SweepRecord

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


def ledger(status: str, run: str = "") -> Ledger:
    plain = {"mcomp": "0", "run": run, "recipe": "tiny", "started": "now", "status": status, "rows": ()}
    return Ledger.model_validate({**plain, "metric": "accuracy", "direction": "higher", "machine": {}})


RUN, SWEEP = "20260101-000000-tiny-0000", "20260102-000000-tiny-0001"


def furnish(root: Path) -> Store:
    """Make a store with some of everything: results a and b, a figure, two states, a run and a sweep."""
    store = Store(root)
    for name in ("a", "b"):
        publish(store, name)
    store.put_measurement(key("a"), "cost", {"seconds": 1.5})
    for number in (1, 2):
        save_state(store, "c", "train", number)
    run = Run(RUN, root / "runs" / RUN, store.disk)
    run.folder.mkdir()
    run.event("run started", keys=[key("a"), key("c")])
    run.write_ledger(ledger("done", RUN))
    sweep = SweepFolder(SWEEP, root / "sweeps" / SWEEP, store.disk)
    sweep.folder.mkdir()
    sweep.write_record(
        SweepRecord(mcomp="0", sweep=SWEEP, recipe="tiny", started="now", status="done", jobs=())
    )
    sweep.write_answered({0: ledger("done")})
    sweep.write_plan({"jobs": [{"keys": [key("b")]}]})
    return store


def save_state(store: Store, name: str, label: str, number: int) -> None:
    """Keep a state of a result that is not finished; what is in it can be told from its number."""
    import torch

    from mcomp.stage import Checkpoint
    from mcomp.store.checkpoints import StepCheckpoints

    weight = torch.full((64,), float(number))
    StepCheckpoints(store, key(name), dict, print).save(
        label, Checkpoint({"weight": weight}, {"number": number})
    )


def flip(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))
