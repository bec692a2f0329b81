"""The runs and sweeps that a store remembers, and the results they refer to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mcomp.errors import StoreError
from mcomp.store.disk import Disk
from mcomp.store.runs import Run
from mcomp.store.store import Store

KEY = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
ID = re.compile(rb"[0-9]{8}-[0-9]{6}-[A-Za-z0-9_-]+-[0-9a-f]{4}")


@dataclass(frozen=True)
class Record:
    """A run, or a sweep with the runs of its jobs, as it was at one moment.

    `keys` are those of all results that it, or one of its jobs, refers to: every key that stands anywhere in
    its files, so that it does not matter which version of mcomp wrote them, nor how far the run came.
    """

    id: str
    folder: Path
    keys: frozenset[str]
    disk: Disk = field(repr=False)
    jobs: tuple[Record, ...] = ()

    @property
    def began(self) -> datetime:
        """When it began (UTC)."""
        return datetime.strptime(self.id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)

    @property
    def is_under_way(self) -> bool:
        """Whether the process that runs it, or one of its jobs, is alive."""
        alive = Run(self.id, self.folder, self.disk).is_under_way
        return alive or any(job.is_under_way for job in self.jobs)


def records(store: Store, known: Iterable[Record] = ()) -> list[Record]:
    """Return the sweeps, and the runs that belong to none, newest first; without those that are `known`."""
    seen = {each.id for record in known for each in (record, *record.jobs)}
    runs = {each: record(store, "runs", each) for each in store.runs() if each not in seen}
    alone = {each: run for each, run in runs.items() if run is not None}
    sweeps = [record(store, "sweeps", each, alone) for each in store.sweeps() if each not in seen]
    everything = [*(sweep for sweep in sweeps if sweep is not None), *alone.values()]
    return sorted(everything, key=lambda record: (record.began, record.id), reverse=True)


def record(store: Store, kind: str, name: str, alone: dict[str, Record] | None = None) -> Record | None:
    """Return a record, None if it is taken away at this moment; its jobs are taken out of `alone`."""
    folder, disk, alone = store.root / kind / name, store.disk, alone or {}
    try:
        names = [each for each in sorted(disk.files_below(folder)) if each.endswith((".json", ".jsonl"))]
        text = b"\n".join(disk.read(folder / each) for each in names)
    except StoreError:
        if folder.exists():
            raise
        return None
    jobs = tuple(alone.pop(each) for each in sorted(set(matches(ID, text)) & alone.keys()))
    return Record(name, folder, frozenset(matches(KEY, text)) | keys_of(jobs), disk, jobs)


def matches(pattern: re.Pattern[bytes], text: bytes) -> list[str]:
    """Return all that matches a pattern."""
    return [each.decode() for each in pattern.findall(text)]


def keys_of(records: Iterable[Record]) -> frozenset[str]:
    """Return the keys of all results that some records refer to."""
    return frozenset[str]().union(*(record.keys for record in records))
