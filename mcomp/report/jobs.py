"""The jobs of a sweep side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Point:
    """A job on the plane of metric (turned so that higher is better) and latency (None: not timed)."""

    metric: float
    latency_ms: float | None

    def beats(self, other: Point) -> bool:
        """Return whether this is nowhere worse than `other`, and better in metric or in latency."""
        slower = 0.0
        if self.latency_ms is not None and other.latency_ms is not None:
            slower = self.latency_ms - other.latency_ms
        worse = other.metric - self.metric
        return worse <= 0 and slower <= 0 and (worse < 0 or slower < 0)


def jobs(records: Sequence[JobRecord]) -> tuple[Job, ...]:
    """Return the jobs in the order of the sweep, those on the Pareto front of metric and latency marked."""
    batch_size = min(timed_sizes(records), default=0)
    points = [point(record, batch_size) for record in records]
    known = set(filter(None, points))
    return tuple(
        Job(
            number=record.number,
            run=record.run,
            overrides=record.overrides,
            status=record.status,
            error=record.error,
            served=final(record.ledger) if record.ledger else None,
            on_front=here is not None and not any(other.beats(here) for other in known),
        )
        for record, here in zip(records, points, strict=True)
    )


def point(record: JobRecord, batch_size: int) -> Point | None:
    """Return where a job lies; None if it left no file."""
    served = final(record.ledger) if record.ledger else None
    if record.ledger is None or served is None:
        return None
    latency = served.latency.get(batch_size)
    sign = 1 if record.ledger.direction == "higher" else -1
    return Point(sign * served.test, latency.median_ms if latency else None)


def ledgers(records: Sequence[JobRecord]) -> list[Ledger]:
    """Return the ledgers of the jobs that have one, in order."""
    return [record.ledger for record in records if record.ledger]


def metric_name(records: Sequence[JobRecord]) -> str:
    """Return what the task calls its metric, as far as any job got to say so."""
    return next((ledger.metric for ledger in ledgers(records)), "metric")


def timed_sizes(records: Sequence[JobRecord]) -> list[int]:
    """Return the batch sizes at which any job was timed, in order."""
    return sorted({size for ledger in ledgers(records) for size in batch_sizes(ledger)})
