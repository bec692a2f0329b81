"""The jobs of a sweep side by side."""

from __future__ import annotations

from collections.abc import Sequence

from mcomp.config import Config
from mcomp.report.summary import batch_sizes, final
from mcomp.store.ledger import Ledger, Served


class Job(Config):
    """One job: what was changed for it, and the file it ended with, if it got that far."""

    run: str
    overrides: tuple[str, ...]
    status: str
    served: Served | None
    on_front: bool


def jobs(ledgers: Sequence[Ledger]) -> tuple[Job, ...]:
    """Return the jobs in the order of the sweep, those on the Pareto front of metric and latency marked."""
    files = [final(ledger) for ledger in ledgers]
    return tuple(
        Job(
            run=ledger.run,
            overrides=ledger.overrides,
            status=ledger.status,
            served=served,
            on_front=served is not None and not any(dominates(other, served, ledger) for other in files),
        )
        for ledger, served in zip(ledgers, files, strict=True)
    )


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
