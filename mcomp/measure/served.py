"""An exported file as its runtime serves it, and beside the baseline exported the same way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mcomp.errors import StageError, named
from mcomp.measure.classes import worst_class
from mcomp.measure.latency import interleaved, latency, speedup
from mcomp.measure.machine import machine
from mcomp.measure.runtime import Exported, Runtime
from mcomp.measure.slowness import explain_slow
from mcomp.store.ledger import Served

if TYPE_CHECKING:
    from mcomp.data.contract import Split, Varying
    from mcomp.recipe.schema import Measure
    from mcomp.task import TaskConfig


def serve(
    exported: Exported, runtime: Runtime, split: Split, task: TaskConfig, measure: Measure, scratch: Path
) -> Served:
    """Return what is known of a file alone: the metric on `split` in its runtime, its bytes and its census.

    The metric is taken in calls of as many samples as the largest that is timed: ranges that are found at run
    time depend on it. `scratch` is a folder for what the runtime writes. Raises StageError if the runtime
    refuses it.
    """
    from mcomp.measure.accuracy import evaluate_file

    file = exported.file
    session = runtime.session(file, measure.threads)
    quality = evaluate_file(session, split, task, max(measure.batch_sizes))
    return Served(
        file=file.name,
        runtime=runtime.name,
        threads=measure.threads,
        session=runtime.settings(file),
        size_bytes=exported.size_bytes,
        test=quality.metric,
        per_class=quality.per_class,
        census=runtime.census(file, scratch, measure.threads),
    )


def versus(
    served: Served,
    baseline: Served,
    files: tuple[Path, Path],
    runtime: Runtime,
    inputs: Mapping[str, np.ndarray],
    measure: Measure,
    direction: Literal["higher", "lower"],
) -> tuple[Served, Served]:
    """Time a file and the baseline's in turns; return both with their latency, `served` also with its ratios.

    `files`: its own, and the baseline's. `inputs` are real samples by name; they are repeated or cut to each
    batch size of `measure`. `direction` is the task's: a drop is positive where the file is worse than the
    baseline.
    """
    candidate_ms, baseline_ms = {}, {}
    candidate, reference = (runtime.session(file, measure.threads) for file in files)
    sessions = {"candidate": candidate, "baseline": reference}
    for batch_size in measure.batch_sizes:
        turns = interleaved(sessions, at_batch_size(inputs, batch_size), measure.rounds)
        candidate_ms[batch_size], baseline_ms[batch_size] = turns["candidate"], turns["baseline"]
    speedups = {size: speedup(baseline_ms[size], candidate_ms[size]) for size in measure.batch_sizes}
    compared = {
        "latency": {size: latency(turns_ms) for size, turns_ms in candidate_ms.items()},
        "speedup": speedups,
        "size_ratio": baseline.size_bytes / served.size_bytes,
        "metric_drop": metric_drop(served.test, baseline.test, direction),
        "worst_class": worst_class(baseline.per_class, served.per_class),
        "slower_because": slower_because(served, baseline, speedups),
    }
    timed = {"latency": {size: latency(turns_ms) for size, turns_ms in baseline_ms.items()}}
    return served.model_copy(update=compared), baseline.model_copy(update=timed)


def metric_drop(test: float, baseline_test: float, direction: Literal["higher", "lower"]) -> float:
    """Return how much worse a metric is than the baseline's, absolute; negative where it is better.

    Rounded to six digits of the larger metric: torchmetrics computes in float32, and a drop that is exactly
    what is tolerated must not fail by its last bit.
    """
    drop = baseline_test - test if direction == "higher" else test - baseline_test
    largest = max(abs(test), abs(baseline_test))
    return round(drop, 6 - math.ceil(math.log10(largest))) if largest else drop


def slower_because(served: Served, baseline: Served, speedups: Mapping[int, float]) -> tuple[str, ...]:
    """Return the causes if a file is slower than the baseline at any batch size."""
    if min(speedups.values()) >= 1 or served.census is None or baseline.census is None:
        return ()
    return explain_slow(served.census, baseline.census, machine()["instructions"].split())


def at_sizes(
    inputs: Mapping[str, np.ndarray], varying: Varying, sizes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Return inputs whose axes of varying length are as long as `sizes` says, repeated or cut.

    Raises StageError for a name that no axis has, and for more than the axis may have.
    """
    known = {size.name: size.largest for axes in varying.values() for size in axes.values()}
    for name, length in sizes.items():
        if name not in known:
            has = ", ".join(known) or "none"
            raise StageError(
                f"measure.sizes: no axis of the inputs is a {named(name)}; of varying length: {has}"
            )
        if length > known[name]:
            raise StageError(f"measure.sizes: {name} is at most {known[name]}, not {length}")
    timed = dict(inputs)
    for name, axes in varying.items():
        for axis, size in axes.items():
            length = sizes.get(size.name, timed[name].shape[axis])
            timed[name] = np.take(timed[name], range(length), axis=axis, mode="wrap")
    return timed


def at_batch_size(inputs: Mapping[str, np.ndarray], batch_size: int) -> dict[str, np.ndarray]:
    """Return inputs with exactly `batch_size` samples, repeating those that there are."""
    return {name: np.take(value, range(batch_size), axis=0, mode="wrap") for name, value in inputs.items()}
