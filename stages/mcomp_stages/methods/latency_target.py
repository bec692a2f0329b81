"""The largest model that is fast enough: shares of the multiply-adds are tried, each in ONNX Runtime.

Runtimes step: a kernel that handles eight channels at once gains nothing from seven. So nothing is predicted
from a table; each try is the whole model, exported as it would be served.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from mcomp.errors import StageError
from mcomp.measure.latency import interleaved, speedup
from mcomp.measure.machine import machine
from mcomp.measure.runtimes.onnx import OnnxSession
from mcomp.measure.served import at_batch_size
from mcomp.model.model import Model
from mcomp.stage import Context
from mcomp_stages.methods.export.graph import served_graph
from mcomp_stages.methods.onnx.write import write_onnx

OPSET = 21
ROUNDS = 15
CLOSE_ENOUGH = 0.95  # of the target: a further try would find little
TRIES = 8

Made = TypeVar("Made")


@dataclass(frozen=True)
class Try:
    """A share of the multiply-adds, and the milliseconds of the model that keeps it."""

    share: float
    ms: float


@dataclass(frozen=True)
class Found(Generic[Made]):
    """What was chosen, and what was tried on the way to it."""

    made: Made
    chosen: Try
    tries: tuple[Try, ...]


def largest_within(
    limit_ms: float,
    smallest_share: float,
    whole_ms: float,
    make: Callable[[float], Made],
    time_ms: Callable[[Made], float],
    tries: int = TRIES,
) -> Found[Made]:
    """Return what `make` gives for the largest share tried that takes at most `limit_ms`.

    The next share lies on the line between the nearest on both sides of the target, but not in the outer
    tenths between them: times are steps and noise. Raises StageError if the whole model is fast enough, or
    the smallest is not.
    """
    if whole_ms <= limit_ms:
        raise StageError(
            f"nothing was cut: the model takes {whole_ms:.3g} ms as it is, at most {limit_ms:.3g}"
        )
    made = make(smallest_share)
    below, above = Try(smallest_share, time_ms(made)), Try(1.0, whole_ms)
    tried = [above, below]
    if below.ms > limit_ms:
        raise StageError(
            f"cannot reach {limit_ms:.3g} ms: the smallest cut, to {smallest_share:.1%} of the "
            f"multiply-adds, takes {below.ms:.3g} ms, the whole model {whole_ms:.3g} ms; the rest is fixed, "
            "skipped, or needed by floors and rounding"
        )
    for _ in range(tries):
        if below.ms >= CLOSE_ENOUGH * limit_ms:
            break
        where = (limit_ms - below.ms) / max(above.ms - below.ms, 1e-9)
        share = below.share + min(max(where, 0.1), 0.9) * (above.share - below.share)
        candidate = make(share)
        tried.append(Try(share, time_ms(candidate)))
        if tried[-1].ms <= limit_ms:
            made, below = candidate, tried[-1]
        else:
            above = tried[-1]
    return Found(made, below, tuple(tried))


@dataclass
class Stopwatch:
    """Times models as they would be served, each in turns with the whole one.

    On a machine whose speed drifts, the ratio to the whole model says more than a time: a candidate takes the
    whole model's time, measured once, over that ratio. Times are kept under `label` if the step is
    interrupted: asked again in the same order, it gives them without measuring.
    """

    model: Model
    context: Context
    batch_size: int
    threads: int
    label: str = "timing"
    whole_ms: float = field(init=False)

    def __post_init__(self) -> None:
        self._numbers = count(1)
        self.whole_ms = self.context.figure(f"{self.label}-whole", self._measured_whole)

    def ms(self, model: Model) -> float:
        """Return the milliseconds of one call."""
        return self.context.figure(f"{self.label}-{next(self._numbers)}", lambda: self._measured(model))

    def _measured_whole(self) -> float:
        turns = interleaved({"whole": self._whole}, self._inputs(), ROUNDS)
        return float(np.median(turns["whole"]))

    def _measured(self, model: Model) -> float:
        sessions = {"whole": self._whole, "candidate": self._session(model, "candidate")}
        turns = interleaved(sessions, self._inputs(), ROUNDS)
        return self.whole_ms / speedup(turns["whole"], turns["candidate"])

    @cached_property
    def _whole(self) -> OnnxSession:
        return self._session(self.model, "whole")

    def facts(self, limit_ms: float, reached_ms: float, tries: Sequence[Try] = ()) -> dict[str, Any]:
        """Return what the report says of a search."""
        return {
            "limit_ms": limit_ms,
            "reached_ms": round(reached_ms, 4),
            "whole_ms": round(self.whole_ms, 4),
            "batch_size": self.batch_size,
            "threads": self.threads,
            "tries": [[round(each.share, 4), round(each.ms, 4)] for each in tries],
            "machine": machine(),
        }

    def _inputs(self) -> dict[str, np.ndarray]:
        inputs = {name: value.numpy() for name, value in self.context.example.items()}
        return at_batch_size(inputs, self.batch_size)

    def _session(self, model: Model, name: str) -> OnnxSession:
        path: Path = self.context.folder / f"timed-{name}.onnx"
        write_onnx(served_graph(model, self.context.example), self.context.example, path, opset=OPSET)
        return OnnxSession(path, self.threads)
