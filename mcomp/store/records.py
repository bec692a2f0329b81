"""The runs and sweeps that a store remembers, and the results they refer to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from mcomp.store.disk import Disk
from mcomp.store.runs import Run
from mcomp.store.store import Store

KEY = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
ID = re.compile(rb"[0-9]{8}-[0-9]{6}-[A-Za-z0-9_-]+-[0-9a-f]{4}")


@dataclass(frozen=True)
class Record:
    """A run, or a sweep with the runs of its jobs."""

    id: str
    folder: Path
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

    @cached_property
    def keys(self) -> frozenset[str]:
        """The keys of all results that it, or one of its jobs, refers to.

        Every key that stands anywhere in its files counts: so it does not matter which version of mcomp
        wrote them, nor how far the run came.
        """
        own = {match.decode() for text in texts(self.disk, self.folder) for match in KEY.findall(text)}
        return frozenset(own).union(*(job.keys for job in self.jobs))


def records(store: Store, known: Iterable[Record] = ()) -> list[Record]:
    """Return the sweeps, and the runs that belong to none, newest first; without those that are `known`."""
    seen = {each.id for record in known for each in (record, *record.jobs)}
    runs = {
        each: Record(each, store.root / "runs" / each, store.disk)
        for each in store.runs()
        if each not in seen
    }
    sweeps = []
    for sweep in store.sweeps():
        if sweep not in seen:
            folder = store.root / "sweeps" / sweep
            jobs = [runs.pop(each) for each in sorted(ids_in(store.disk, folder)) if each in runs]
            sweeps.append(Record(sweep, folder, store.disk, tuple(jobs)))
    return sorted([*sweeps, *runs.values()], key=lambda record: (record.began, record.id), reverse=True)


def keys_of(records: Iterable[Record]) -> frozenset[str]:
    """Return the keys of all results that some records refer to."""
    return frozenset[str]().union(*(record.keys for record in records))


def ids_in(disk: Disk, folder: Path) -> set[str]:
    """Return the ids of runs that stand in the files of a sweep."""
    return {match.decode() for text in texts(disk, folder) for match in ID.findall(text)}


def texts(disk: Disk, folder: Path) -> Iterator[bytes]:
    """Yield the JSON files of a record."""
    for name in sorted(disk.files_below(folder)):
        if name.endswith((".json", ".jsonl")):
            yield disk.read(folder / name)
