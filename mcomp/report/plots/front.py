"""The jobs of a sweep, metric against latency."""

from __future__ import annotations

from collections.abc import Sequence

from mcomp.report.jobs import Job
from mcomp.report.plots.style import Figure, axis, label


def front(jobs: Sequence[Job], metric: str, batch_size: int) -> Figure | None:
    """Return metric against latency, a dot for each job with a timed file; None if there is none."""
    timed = [(job, job.served) for job in jobs if job.served and batch_size in job.served.latency]
    if not timed:
        return None
    latencies = [served.latency[batch_size].median_ms for _, served in timed]
    metrics = [served.test for _, served in timed]
    trace = {
        "type": "scatter",
        "mode": "markers+text",
        "x": latencies,
        "y": metrics,
        "text": [label(short(job)) for job, _ in timed],
        "textposition": "top center",
        "textfont": {"color": "@muted"},
        "marker": {"size": 12, "color": ["@accent" if job.on_front else "@quiet" for job, _ in timed]},
        "cliponaxis": False,
        "hovertemplate": "%{text}<br>%{x:.3f} ms, %{y:.4f}<extra></extra>",
    }
    layout = {
        "xaxis": axis(f"latency at batch {batch_size} (ms)", range=padded(latencies)),
        "yaxis": axis(f"test {label(metric)}", range=padded(metrics)),
        "height": 420,
        "margin": {"l": 10, "r": 10, "t": 20, "b": 10},
        "showlegend": False,
    }
    return {"data": [trace], "layout": layout}


def short(job: Job) -> str:
    """Return what a job changed by the last part of each key: `macs=0.4`."""
    pairs = (override.partition("=") for override in job.overrides)
    return ", ".join(key.rpartition(".")[2] + equals + value for key, equals, value in pairs) or job.run


def padded(values: Sequence[float]) -> list[float]:
    """Return a span with room for dots and their labels at both ends."""
    low, high = min(values), max(values)
    room = 0.15 * (high - low) or 0.01 * abs(high) or 1.0
    return [low - room, high + room]
