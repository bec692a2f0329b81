"""Runs of the toy recipe, and what they leave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mcomp.plan import Plan
from mcomp.scheduler import Outcome, Scheduler
from mcomp.store.ledger import Ledger
from mcomp.store.store import Store
from tests.mcomp.voices import Quiet

MakePlan = Callable[..., Plan]


def execute(plan: Plan, store: Store, reporter: Quiet | None = None) -> Outcome:
    return Scheduler(plan, store, reporter or Quiet()).execute()


def statuses(ledger: Ledger) -> list[str]:
    return [f"{row.stage} {row.status}" for row in ledger.rows]


def last_ledger(store: Store) -> Ledger:
    return store.run(store.runs()[0]).read_ledger()


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


def remove(store: Store, *keys: str) -> None:
    for key in keys:
        store.disk.remove(store.artifact_folder(key))


def files_below_names(outcome: Outcome) -> dict[str, bytes]:
    """Return the exported files of a run."""
    return {name: path.read_bytes() for name, path in outcome.files.items()}


def keys(outcome: Outcome) -> list[str]:
    return [row.key for row in outcome.ledger.rows]
