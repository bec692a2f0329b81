"""What the store says about a job that has nothing to do: it is not started, and leaves no run."""

from __future__ import annotations

from mcomp.console import SilentReporter
from mcomp.errors import CorruptArtifact, RequireNotMet
from mcomp.plan import Plan
from mcomp.scheduler import Scheduler
from mcomp.store.store import Store
from mcomp.store.sweeps import JobRecord


def answered(plan: Plan, store: Store, record: JobRecord) -> JobRecord | None:
    """Return the record of a job that has nothing to do; None if a result turns out broken."""
    scheduler = Scheduler(plan, store, SilentReporter())
    try:
        scheduler.do_each()
    except CorruptArtifact:
        return None
    status = scheduler.verdict()
    return record.model_copy(
        update={
            "status": status,
            "exit_code": 0 if status == "done" else RequireNotMet.exit_code,
            "files": {name: str(path) for name, path in scheduler.files.items()},
            "ledger": scheduler.ledger(status, ""),
        }
    )
