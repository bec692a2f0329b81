"""What is known of a sweep afterwards: how each job ended, with its ledger."""

from __future__ import annotations

from mcomp.store.ledger import Ledger
from mcomp.store.runs import LEDGER
from mcomp.store.store import Store
from mcomp.store.sweeps import JobRecord, SweepRecord


def read_sweep(store: Store, sweep_id: str) -> SweepRecord:
    """Return the record of a sweep with the ledgers of its jobs. Raises StoreError."""
    folder = store.sweep(sweep_id)
    record, answered = folder.read_record(), folder.read_answered()
    ledgers = [answered.get(job.number) or ledger_of(job, store) for job in record.jobs]
    jobs = [
        job.model_copy(update={"ledger": ledger}) for job, ledger in zip(record.jobs, ledgers, strict=True)
    ]
    return record.model_copy(update={"jobs": tuple(jobs)})


def ledger_of(job: JobRecord, store: Store) -> Ledger | None:
    """Return the ledger of a job that was started, if its run has one."""
    if not job.run:
        return None
    run = store.run(job.run)
    return run.read_ledger() if (run.folder / LEDGER).exists() else None
