"""What a ledger comes to: the file that counts, the differences between steps, the requirements in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mcomp.report.facts import compressed_bytes
from mcomp.report.text import NONE, count, metric, milliseconds, ratio, size
from mcomp.store.ledger import Ledger, Requirement, Row, Served

QUICK = "a first look on a part of the data: these figures are no results, and nothing is judged"

FIGURES: dict[str, Callable[[float | None], str]] = {
    "accuracy": metric,
    "accuracy_drop": metric,
    "worst_class_drop": metric,
    "speedup": ratio,
    "latency_ms": milliseconds,
    "size_ratio": ratio,
    "size_bytes": size,
}


def final(ledger: Ledger) -> Served | None:
    """Return the file that a run ends with, if it got that far."""
    return next((row.served for row in reversed(ledger.rows) if row.served), None)


def session_note(served: Served | None) -> str | None:
    """Return with which options a file must be served on the machine where it was measured, if with any."""
    if served is None or not served.session:
        return None
    options = ", ".join(f"{name}={value}" for name, value in served.session.items())
    return (
        f"on this processor (no VNNI) serve the file with the session option {options}, as it was measured: "
        "without it sums of its 8-bit products overflow. Weights of 7 bits need no option and are faster here"
    )


@dataclass(frozen=True)
class File:
    """An exported file under the name by which the reader knows it: the baseline, or a stage."""

    name: str
    served: Served
    compressed_bytes: int | None = None


def files(ledger: Ledger) -> list[File]:
    """Return the baseline's files, if there are any, and then those of the run."""
    several = len(ledger.baselines) > 1
    baselines = [
        File(f"baseline ({name})" if several else "baseline", served)
        for name, served in ledger.baselines.items()
    ]
    return baselines + [
        File(row.stage, row.served, compressed_bytes(row)) for row in ledger.rows if row.served
    ]


def better_by(ledger: Ledger, row: Row) -> float | None:
    """Return how much better the validation metric of a step is than that of the first; negative if worse."""
    first = next(
        (each.figures.validation for each in ledger.rows if each.figures.validation is not None), None
    )
    if first is None or row.figures.validation is None:
        return None
    difference = row.figures.validation - first
    return difference if ledger.direction == "higher" else -difference


@dataclass(frozen=True)
class Verdict:
    """A requirement in words: `speedup at batch 1`, `at least 10.0×`, `10.9×`, `met`."""

    what: str
    bound: str
    value: str
    met: bool


def verdict(requirement: Requirement, metric_name: str) -> Verdict:
    """Return a requirement in words; `accuracy` is called by the name of the task's metric."""
    show = FIGURES.get(requirement.what, metric)
    what = requirement.what.replace("accuracy", metric_name).replace("_", " ").removesuffix(" ms")
    if requirement.batch_size is not None:
        what += f" at batch {requirement.batch_size}"
    bounds = (("at least", requirement.min), ("at most", requirement.max))
    bound = ", ".join(f"{words} {show(limit)}" for words, limit in bounds if limit is not None)
    return Verdict(f"{what} ({requirement.stage})", bound, show(requirement.value), requirement.met)


def layers_in_int8(served: Served) -> str:
    """Return how many layers run in integers, of how many."""
    if served.census is None:
        return NONE
    return f"{count(served.census.int8)} of {count(served.census.int8 + served.census.float)}"


def batch_sizes(ledger: Ledger) -> tuple[int, ...]:
    """Return the batch sizes that anything was timed at, in order."""
    return tuple(sorted({batch_size for file in files(ledger) for batch_size in file.served.latency}))
