"""The jobs of a sweep side by side."""

from __future__ import annotations

from collections.abc import Sequence

from mcomp.config import Config
from mcomp.report.summary import batch_sizes, final
from mcomp.store.ledger import Ledger, Served
from mcomp.store.sweeps import JobRecord, JobStatus


class Job(Config):
    """One job: what was changed for it, how it ended, and the file it ended with, if it got that far."""

    number: int
    run: str
    overrides: tuple[str, ...]
    status: JobStatus
    error: str
    served: Served | None
    on_front: bool


def jobs(records: Sequence[JobRecord]) -> tuple[Job, ...]:
    """Return the jobs in the order of the sweep, those on the Pareto front of metric and latency marked."""
    files = [final(record.ledger) if record.ledger else None for record in records]
    return tuple(
        Job(
            number=record.number,
            run=record.run,
            overrides=record.overrides,
            status=record.status,
            error=record.error,
            served=served,
            on_front=served is not None
            and record.ledger is not None
            and not any(dominates(other, served, record.ledger) for other in files),
        )
        for record, served in zip(records, files, strict=True)
    )


def ledgers(records: Sequence[JobRecord]) -> list[Ledger]:
    """Return the ledgers of the jobs that have one, in order."""
    return [record.ledger for record in records if record.ledger]


def metric_name(records: Sequence[JobRecord]) -> str:
    """Return what the task calls its metric, as far as any job got to say so."""
    return next((ledger.metric for ledger in ledgers(records)), "metric")


def timed_sizes(records: Sequence[JobRecord]) -> list[int]:
    """Return the batch sizes at which any job was timed, in order."""
    return sorted({size for ledger in ledgers(records) for size in batch_sizes(ledger)})


def dominates(other: Served | None, served: Served, ledger: Ledger) -> bool:
    """Return whether `other` is nowhere worse than `served`, and better in metric or in latency."""
    if other is None:
        return False
    sign = 1 if ledger.direction == "higher" else -1
    batch_size = min(batch_sizes(ledger), default=0)
    times = [each.latency[batch_size].median_ms for each in (other, served) if batch_size in each.latency]
    slower = times[0] - times[1] if len(times) == 2 else 0.0
    worse = sign * (served.test - other.test)
    return worse <= 0 and slower <= 0 and (worse < 0 or slower < 0)
