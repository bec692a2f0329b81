"""Read everything in a store again and compare it with what was written; what is broken goes to quarantine.

Runs may be under way meanwhile: what somebody works on, or takes away while it is read, is said to be in use.
The files that nothing is computed from (a run's recipe, its log, the notes of leases) are not looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal

from mcomp.errors import CorruptArtifact, StoreError
from mcomp.store.artifact import inspect
from mcomp.store.digests import FOLDER as DIGESTS
from mcomp.store.digests import read_digests
from mcomp.store.disk import Disk, explained
from mcomp.store.lease import hold_if_free, is_held
from mcomp.store.runs import LEDGER
from mcomp.store.store import Store, read_figure
from mcomp.store.sweeps import ANSWERED, RECORD

KEY = re.compile(r"[0-9a-f]{64}")
State = Literal["ok", "broken", "unreadable", "in use"]


@dataclass(frozen=True)
class Item:
    """One thing of a store that shows when its bytes changed.

    `lease` is what whoever writes it holds. `check` raises CorruptArtifact, or StoreError if it cannot tell.
    """

    path: Path
    kind: Literal["artifacts", "measurements", "checkpoints", "runs", "sweeps", "digests"]
    lease: str
    check: Callable[[], object]


@dataclass(frozen=True)
class Finding:
    """How an item was found: what is wrong with it, and where it was moved."""

    item: Item
    state: State
    problem: str = ""
    moved: Path | None = None


def items(store: Store) -> list[Item]:
    """Return everything that can be verified. Raises StoreError."""
    store.require_format()
    with explained("read", store.root):
        return [item for find in FINDERS for item in find(store)]


def examined(store: Store, item: Item, *, move: bool = True) -> Finding:
    """Return how an item is; move it to quarantine if it is broken. It is never deleted."""
    finding = judged(item)
    if finding.state == "ok":
        return finding
    leases = store.root / "leases"
    free = (
        hold_if_free(store.disk, leases, item.lease) if move else nullcontext(not is_held(leases, item.lease))
    )
    with free as is_free:
        if not is_free:
            return Finding(item, "in use")
        finding = judged(item)  # again: whoever had the lease may have changed it while it was read
        if finding.state == "broken" and move:
            return replace(finding, moved=set_apart(store, item))
        return finding


def judged(item: Item) -> Finding:
    """Return how an item is."""
    state: State = "broken"
    try:
        item.check()
        return Finding(item, "ok")
    except CorruptArtifact as error:
        problem = str(error)
    except StoreError as error:
        state, problem = "unreadable", str(error)
    return Finding(item, state, problem) if os.path.lexists(item.path) else Finding(item, "in use")


def set_apart(store: Store, item: Item) -> Path:
    """Move a broken item to a numbered name in quarantine, and return that."""
    if item.kind == "artifacts":
        return store.move(item.lease, "quarantine")
    kind, owner, *names = item.path.relative_to(store.root).parts
    quarantine = store.root / "quarantine"
    for number in count(1):
        folder = quarantine / f"{kind}-{owner}-{number}"
        try:
            store.disk.mkdir(folder)
            break
        except FileExistsError:
            continue
    store.disk.rename(item.path, folder / ("-".join(names) or owner))
    store.disk.sync_folder(folder)
    store.disk.sync_folder(quarantine)
    return folder


def artifacts(store: Store) -> Iterator[Item]:
    """Yield the results; what has another name than a key is being published, or was not."""
    for folder in store.glob("artifacts/*/*"):
        if KEY.fullmatch(folder.name):
            yield Item(folder, "artifacts", folder.name, partial(check_artifact, store.disk, folder))


def check_artifact(disk: Disk, folder: Path) -> None:
    """Compare every byte of a result with its manifest, and the manifest with its key."""
    manifest = inspect(disk, folder, folder.name, None)
    for name, entry in manifest.files.items():
        if disk.sha256(folder / name) != entry.sha256:
            raise CorruptArtifact(f"{name} has other bytes than were published")


def measurements(store: Store) -> Iterator[Item]:
    """Yield the figures."""
    for path in store.glob("measurements/*/*.json"):
        yield Item(path, "measurements", path.parent.name, partial(read_figure, store.disk, path))


def checkpoints(store: Store) -> Iterator[Item]:
    """Yield what is kept of steps that are not finished."""
    for folder in store.glob("checkpoints/*/*/*"):
        key = folder.parent.parent.name
        if KEY.fullmatch(key):
            yield Item(folder, "checkpoints", key, partial(check_checkpoint, store, key, folder))


def check_checkpoint(store: Store, key: str, folder: Path) -> None:
    """Compare every byte of a state with what was written."""
    from mcomp.store.checkpoints import TENSORS, StepCheckpoints  # imports torch

    numbers = StepCheckpoints(store, key, dict, store.on_problem).read_numbers(folder)
    if store.disk.sha256(folder / TENSORS) != numbers.tensors.sha256:
        raise CorruptArtifact(f"{TENSORS} has other bytes than were written")


def runs(store: Store) -> Iterator[Item]:
    """Yield the ledgers; a run that was killed before its first step ended has none."""
    for run in map(store.run, store.runs()):
        if (run.folder / LEDGER).exists():
            yield Item(run.folder / LEDGER, "runs", run.id, run.read_ledger)


def sweeps(store: Store) -> Iterator[Item]:
    """Yield the records of sweeps, and the ledgers of the jobs that had nothing to do."""
    for sweep in map(store.sweep, store.sweeps()):
        for name, check in ((RECORD, sweep.read_record), (ANSWERED, sweep.read_answered)):
            if (sweep.folder / name).exists():
                yield Item(sweep.folder / name, "sweeps", sweep.id, check)


def digests(store: Store) -> Iterator[Item]:
    """Yield the digests of files outside of the store, those of one folder together."""
    for path in store.glob(f"{DIGESTS}/*.json"):
        yield Item(path, "digests", path.stem, partial(read_digests, store.disk, path))


FINDERS: tuple[Callable[[Store], Iterator[Item]], ...] = (
    artifacts, measurements, checkpoints, runs, sweeps, digests
)  # fmt: skip
