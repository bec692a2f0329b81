"""What earlier runs say about a step: the ledgers of a store, read once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from mcomp.errors import StoreError
from mcomp.report.why import why
from mcomp.store.artifact import KEY
from mcomp.store.ledger import Ledger, Row
from mcomp.store.runs import Run
from mcomp.store.store import Store

# Enough to find a step again, few enough to be read in a fraction of a second.
RECENT_RUNS = 200


def all_runs(store: Store, before: str | None = None) -> Iterator[Run]:
    """Yield the runs, newest first; only those older than the run `before`, if it is given."""
    ids = store.runs()
    for run_id in ids[ids.index(before) + 1 :] if before is not None else ids:
        yield Run(run_id, store.root / "runs" / run_id, store.disk)


def read_ledger(run: Run) -> Ledger | None:
    """Return the ledger of a run, None if it has none or none that can be read."""
    try:
        return run.read_ledger()
    except StoreError:
        return None


def label(row: Row) -> str:
    """Return what `Step.label` was when the row was written."""
    return f"{row.recipe}/{row.stage}"


def key_json(store: Store, key: str) -> dict[str, Any] | None:
    """Return everything that a stored result depends on, None if the store has it no more."""
    artifact = store.find(key)
    if artifact is None:
        return None
    try:
        read = json.loads(store.disk.read(artifact.folder / KEY))
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


@dataclass(frozen=True)
class History:
    """The rows of earlier runs by the label of their step, newest first, each with the id of its run."""

    store: Store
    rows: Mapping[str, list[tuple[str, Row]]]

    @classmethod
    def read(cls, store: Store, before: str | None = None) -> History:
        """Read the ledgers of the newest runs, or of the newest of those older than the run `before`."""
        rows: dict[str, list[tuple[str, Row]]] = {}
        for run in islice(all_runs(store, before), RECENT_RUNS):
            ledger = read_ledger(run)
            for row in ledger.rows if ledger else ():
                rows.setdefault(label(row), []).append((run.id, row))
        return cls(store, rows)

    def seconds(self, label: str) -> float | None:
        """Return how long the step took the last time it was computed, None if that is not known."""
        known = (row.seconds for _, row in self.rows.get(label, ()) if row.status != "failed" and row.seconds)
        return next(known, None)

    def made_in(self, label: str, key: str) -> str | None:
        """Return the newest run that computed a result, None if it is none of those that were read."""
        rows = self.rows.get(label, ())
        return next((run for run, row in rows if row.key == key and row.status == "computed"), None)

    def reasons(self, label: str, key: str, now: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
        """Return why the result `key`, which depends on `now`, had to be made; `names` as in `why`."""
        rows = self.rows.get(label, ())
        same = next(((run, row) for run, row in rows if row.key == key), None)
        if same is not None and same[1].status == "failed":
            return [f"it failed in {same[0]}"]
        if same is not None:
            return ["its former result was set aside, or is broken or gone"]
        for each in dict.fromkeys(row.key for _, row in rows if row.status != "failed"):
            before = key_json(self.store, each)
            if before is not None:
                return why(now, before, names)
        return ["its former results are gone from the store"] if rows else ["never run"]
