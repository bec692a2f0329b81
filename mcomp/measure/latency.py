"""How long one call of a file takes, beside the files it is compared with. Free of torch.

On a shared machine the speed drifts by more than the difference that is looked for. So the files take turns
in one process, and a ratio is taken within each round, where both saw the same machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from mcomp.measure.runtime import Session
from mcomp.store.ledger import Latency

TURN_SECONDS = 0.010  # long enough for the clock and for the scheduler of the system


@runtime_checkable
class TimesItself(Protocol):
    """A session whose calls go through another process, whose clock counts."""

    def mean_seconds(self, inputs: Mapping[str, np.ndarray], num_calls: int) -> float: ...


def interleaved(
    sessions: Mapping[str, Session], inputs: Mapping[str, np.ndarray], rounds: int, warmup: int = 3
) -> dict[str, tuple[float, ...]]:
    """Return the milliseconds of one call in each round, for each session on the same inputs.

    A turn is as many calls as fill 10 ms. Every other round goes in reverse: nobody always runs first.
    """
    calls = {name: calls_per_turn(session, inputs, warmup) for name, session in sessions.items()}
    turns: dict[str, list[float]] = {name: [] for name in sessions}
    order = list(sessions)
    for _ in range(rounds):
        for name in order:
            turns[name].append(call_seconds(sessions[name], inputs, calls[name]) * 1000)
        order.reverse()
    return {name: tuple(values) for name, values in turns.items()}


def calls_per_turn(session: Session, inputs: Mapping[str, np.ndarray], warmup: int) -> int:
    """Warm a session up and return how many calls fill a turn."""
    fastest = min(call_seconds(session, inputs, 1) for _ in range(max(warmup, 1)))
    return max(1, math.ceil(TURN_SECONDS / fastest))


def call_seconds(session: Session, inputs: Mapping[str, np.ndarray], num_calls: int) -> float:
    """Return the mean seconds of one call over `num_calls`."""
    if isinstance(session, TimesItself):
        return session.mean_seconds(inputs, num_calls)
    started = time.perf_counter()
    for _ in range(num_calls):
        session.run(inputs)
    return (time.perf_counter() - started) / num_calls


def latency(turns_ms: Sequence[float]) -> Latency:
    """Return the median and the spread of the turns of one session."""
    p10, median, p90 = (float(value) for value in np.percentile(turns_ms, (10, 50, 90)))
    return Latency(median_ms=median, p10_ms=p10, p90_ms=p90, rounds=len(turns_ms))


def speedup(baseline_ms: Sequence[float], candidate_ms: Sequence[float]) -> float:
    """Return the median over the rounds of baseline time over candidate time."""
    return float(np.median(np.divide(baseline_ms, candidate_ms)))
