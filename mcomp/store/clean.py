"""Make room in a store: list what no kept run refers to, and what is old; then take it away, one by one.

Runs may be under way meanwhile. A run names the results it needs before it looks for the first, and what
somebody works on is leased: neither is taken away. What goes is first renamed into work/, in one step, and
deleted there: a process that is killed between leaves nothing that can be seen, and the next clean (or the
next lease of that key) deletes the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from mcomp.errors import StoreError
from mcomp.store.artifact import MANIFEST, decoded
from mcomp.store.digests import FOLDER as DIGESTS
from mcomp.store.digests import read_digests
from mcomp.store.disk import Disk, explained
from mcomp.store.lease import CLAIM, claim, hold_if_free, is_held, is_left_behind, temporary_name
from mcomp.store.records import Record, keys_of, records
from mcomp.store.store import Store

Kind = Literal[
    "run", "sweep", "result", "checkpoints", "figures", "lease", "left behind", "set aside", "digests"
]

KEY = re.compile(r"[0-9a-f]{64}")
# A record without keys is that of a run which has only just made its folder, or was killed then.
TIME_TO_BEGIN = timedelta(hours=1)


@dataclass(frozen=True)
class Rules:
    """What may go, beside what nobody refers to.

    Records of runs and sweeps go if neither `older_than` nor `keep_runs` (the newest) protects them; without
    both, all stay. `older_than` protects results and what was set aside as well; `larger_than` (bytes)
    protects results. `quarantine` and `replaced`: what was found broken, and what --fresh set aside.
    """

    older_than: timedelta | None = None
    keep_runs: int | None = None
    larger_than: int = 0
    quarantine: bool = False
    replaced: bool = False


@dataclass(frozen=True)
class Removal:
    """What goes together, and why. `lease` is what whoever works on it holds, "" if nobody can.

    `step` says what a result is of, as far as that can be read.
    """

    kind: Kind
    paths: tuple[Path, ...]
    reason: str
    size_bytes: int
    lease: str = ""
    step: str = ""


def removals(store: Store, rules: Rules, known: Sequence[Record], now: datetime) -> list[Removal]:
    """Return what may go, in the order in which it should; `known` are the store's records, newest first."""
    reasons = [reason_to_go(*each, rules, now) for each in enumerate(known)]
    judged = list(zip(known, reasons, strict=True))
    needed = keys_of(record for record, reason in judged if not reason)
    with explained("read", store.root):
        found = [
            *(each for record, reason in judged if reason for each in of_record(record, reason)),
            *(each for key in held_keys(store) for each in of_key(store, key, key in needed, rules, now)),
            *left_behind(store),
            *set_aside(store, rules, now),
            *free_leases(store, needed),
            *stale_digests(store),
        ]
        return [each for each in found if not is_held(store.root / "leases", each.lease)]


def reason_to_go(number: int, record: Record, rules: Rules, now: datetime) -> str:
    """Return why the record that is number `number` from the newest goes, "" if it stays."""
    if record.is_under_way or (rules.keep_runs is not None and number < rules.keep_runs):
        return ""
    age = now - record.began
    if not record.keys and age < TIME_TO_BEGIN:
        return ""
    if rules.older_than is not None:
        return f"{age.days} days old" if age > rules.older_than else ""
    return f"not of the {rules.keep_runs} newest" if rules.keep_runs is not None else ""


def of_record(record: Record, reason: str) -> Iterator[Removal]:
    """Yield a record, and those of its jobs."""
    kind: Kind = "sweep" if record.folder.parent.name == "sweeps" else "run"
    yield Removal(kind, (record.folder,), reason, size(record.disk, record.folder), record.id)
    for job in record.jobs:
        yield from of_record(job, f"of {record.id}")


def of_key(store: Store, key: str, is_needed: bool, rules: Rules, now: datetime) -> Iterator[Removal]:
    """Yield what is kept of a key, all of it together, if no kept run refers to it."""
    result, states = store.artifact_folder(key), store.checkpoints_folder(key)
    if is_needed and os.path.lexists(result) and states.exists():
        yield Removal("checkpoints", (states,), "its result is there", size(store.disk, states), key)
    if is_needed:
        return
    kinds: dict[Path, Kind] = {
        result: "result",
        states: "checkpoints",
        store.root / "measurements" / key: "figures",
    }
    paths = tuple(path for path in kinds if os.path.lexists(path))
    total = sum(size(store.disk, path) for path in paths)
    if paths and is_old(paths[0], rules, now) and total >= rules.larger_than:
        step = step_of(store.disk, result)
        yield Removal(kinds[paths[0]], paths, "no kept run refers to it", total, key, step)


def step_of(disk: Disk, result: Path) -> str:
    """Return what the step that made a result was called, "" if that cannot be read."""
    try:
        return str(decoded(disk.read(result / MANIFEST)).about.get("step", ""))
    except (StoreError, ValueError):
        return ""


def left_behind(store: Store) -> Iterator[Removal]:
    """Yield what dead processes left unfinished."""
    for path in (*store.glob("work/*"), *store.glob("artifacts/*/*")):
        if is_left_behind(path.name):
            yield Removal("left behind", (path,), "its process is gone", size(store.disk, path))


def set_aside(store: Store, rules: Rules, now: datetime) -> Iterator[Removal]:
    """Yield what was found broken and what was replaced, if it was asked for."""
    for name, reason, is_asked in (
        ("quarantine", "found broken", rules.quarantine),
        ("replaced", "replaced by --fresh", rules.replaced),
    ):
        for path in store.glob(f"{name}/*") if is_asked else ():
            if is_old(path, rules, now):
                yield Removal("set aside", (path,), reason, size(store.disk, path))


def free_leases(store: Store, needed: frozenset[str]) -> Iterator[Removal]:
    """Yield the files of leases on what is not there; what goes takes its lease with it."""
    held = {CLAIM, *needed, *held_keys(store), *store.runs(), *store.sweeps()}
    for name in sorted({path.stem for path in store.glob("leases/*")} - held):
        paths = tuple(store.root / "leases" / f"{name}.{suffix}" for suffix in ("json", "lock"))
        yield Removal("lease", paths, "there is nothing of that name", sum(map(file_size, paths)), name)


def stale_digests(store: Store) -> Iterator[Removal]:
    """Yield what is remembered of the files in folders that are not there any more."""
    for path in store.glob(f"{DIGESTS}/*.json"):
        with suppress(StoreError):  # what is broken is not deleted
            if not Path(read_digests(store.disk, path).folder).is_dir():
                yield Removal("digests", (path,), "the folder with the files is gone", file_size(path))


def held_keys(store: Store) -> list[str]:
    """Return the keys of which the store has anything."""
    found = (
        *store.glob("artifacts/*/*"),
        *store.glob("checkpoints/*"),
        *store.glob("measurements/*"),
    )
    return sorted({path.name for path in found if KEY.fullmatch(path.name)})


def is_old(path: Path, rules: Rules, now: datetime) -> bool:
    """Return whether nothing was written into a folder for as long as the rules ask."""
    if rules.older_than is None:
        return True
    with suppress(FileNotFoundError):
        return now.timestamp() - path.lstat().st_mtime > rules.older_than.total_seconds()
    return False


def size(disk: Disk, path: Path) -> int:
    """Return the bytes of a file or of all files in a folder, 0 for what is taken away at this moment."""
    if path.is_symlink() or not path.is_dir():
        return file_size(path)
    try:
        return sum(each or 0 for each in disk.files_below(path).values())
    except StoreError:
        if path.exists():
            raise
        return 0


def file_size(path: Path) -> int:
    """Return the bytes of a file, 0 if there is none."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def remove(store: Store, removal: Removal, known: Sequence[Record]) -> str:
    """Take something away; return "", or why it stays after all. Raises StoreError.

    `known` are the records that it was chosen by.
    """
    leases = store.root / "leases"
    free = hold_if_free(store.disk, leases, removal.lease) if removal.lease else nullcontext(True)
    with free as is_free:
        if not is_free:
            return "somebody works on it"
        with claim(leases) as is_claimed:
            if not is_claimed:
                return "somebody else cleans, or begins, and does not come to an end"
            # Those that had no keys are read again: they may have begun to look for results.
            if removal.lease in keys_of(records(store, [record for record in known if record.keys])):
                return "a run that began meanwhile needs it"
            rest = [out_of_sight(store, path) for path in removal.paths]
        # Before anything in it is deleted: else a power cut could bring back a name with half of the files.
        store.disk.sync_folder(store.root / "work")
        for path in rest:
            store.disk.remove(path)
        if removal.lease:
            # The lock last. Who waits for it opens it anew: filelock sees that the file it locked is gone.
            for suffix in ("json", "lock"):
                store.disk.remove(leases / f"{removal.lease}.{suffix}")
    return ""


def out_of_sight(store: Store, path: Path) -> Path:
    """Move a folder into work/, and return where it is now; files, and what is there already, stay."""
    work = store.root / "work"
    if not path.is_dir() or path.is_symlink() or path.parent == work:
        return path
    trash = work / temporary_name(path.name)
    store.disk.rename(path, trash)
    return trash
