"""Hold the figures of exported files against the bounds of `require`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from mcomp.recipe.schema import Bound, Require, TimedBound
from mcomp.store.ledger import Requirement, Served

Figure = Callable[[Served, int], float | None]

FIGURES: dict[str, Figure] = {
    "accuracy": lambda served, _: served.test,
    "accuracy_drop": lambda served, _: served.metric_drop,
    "worst_class_drop": lambda served, _: served.worst_class[1] if served.worst_class else None,
    "speedup": lambda served, batch_size: served.speedup.get(batch_size),
    "latency_ms": lambda served, batch_size: latency(served, batch_size),
    "size_ratio": lambda served, _: served.size_ratio,
    "size_bytes": lambda served, _: float(served.size_bytes),
}


def latency(served: Served, batch_size: int) -> float | None:
    """Return the median time of one call in milliseconds, if it was measured for this batch size."""
    measured = served.latency.get(batch_size)
    return measured.median_ms if measured else None


def judge(require: Require, served: Mapping[str, Served]) -> tuple[Requirement, ...]:
    """Return every bound with its figure.

    `served` maps the names of the exports, in order, to what was measured.
    """
    return tuple(judged(what, bound, served) for what, bound in bounds(require))


def bounds(require: Require) -> Iterator[tuple[str, Bound]]:
    """Yield the bounds that a recipe sets, with the name of what they bound."""
    for what in FIGURES:
        for bound in getattr(require, what):
            yield what, bound


def judged(what: str, bound: Bound, served: Mapping[str, Served]) -> Requirement:
    """Return one bound with its figure; a figure that is missing does not meet it."""
    stage = bound.of or list(served)[-1]
    batch_size = bound.batch_size if isinstance(bound, TimedBound) else None
    value = FIGURES[what](served[stage], batch_size or 1)
    met = value is not None and within(value, bound)
    return Requirement(
        what=what, stage=stage, batch_size=batch_size, min=bound.min, max=bound.max, value=value, met=met
    )


def within(value: float, bound: Bound) -> bool:
    """Return whether a figure lies in the bound."""
    return (bound.min is None or value >= bound.min) and (bound.max is None or value <= bound.max)
