"""The runs and sweeps that a store remembers, and the results they refer to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

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
    runs = {}
    for run in store.runs():
        if run not in seen:
            folder = store.root / "runs" / run
            runs[run] = Record(run, folder, found(KEY, store.disk, folder), store.disk)
    sweeps = []
    for sweep in store.sweeps():
        if sweep not in seen:
            folder = store.root / "sweeps" / sweep
            ids = sorted(found(ID, store.disk, folder) & runs.keys())
            jobs = tuple(runs.pop(each) for each in ids)
            keys = found(KEY, store.disk, folder) | keys_of(jobs)
            sweeps.append(Record(sweep, folder, keys, store.disk, jobs))
    return sorted([*sweeps, *runs.values()], key=lambda record: (record.began, record.id), reverse=True)


def keys_of(records: Iterable[Record]) -> frozenset[str]:
    """Return the keys of all results that some records refer to."""
    return frozenset[str]().union(*(record.keys for record in records))


def found(pattern: re.Pattern[bytes], disk: Disk, folder: Path) -> frozenset[str]:
    """Return all that matches a pattern in the JSON files of a record."""
    names = [name for name in disk.files_below(folder) if name.endswith((".json", ".jsonl"))]
    return frozenset(
        match.decode() for name in sorted(names) for match in pattern.findall(disk.read(folder / name))
    )
