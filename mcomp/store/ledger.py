"""What a run says about itself afterwards: one row for each step.

Reports are drawn from this and nothing else.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from mcomp.config import Config

Count = Annotated[int, Field(ge=0, lt=2**63)]
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Latency(Config):
    """Milliseconds for one call of the runtime, over `rounds` turns taken beside the baseline."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    rounds: Count


class Figures(Config):
    """What is known of a model after a step.

    `validation` and `train` are the task's metric on validation, and on as many samples of train.
    """

    validation: float | None = None
    train: float | None = None
    loss: float | None = None
    parameters: Count | None = None
    macs: Count | None = None
    size_bytes: Count | None = None


class Census(Config):
    """Which layers the runtime really runs in integers, counted in its optimised graph.

    `by_type`: every operator and how often it stands there. `float_layers`: the names of convolutions and
    linears that stayed in float. `narrow_layers`: integer convolutions that see too few channels to be fast.
    `unrounded_layers`: convolutions whose channels do not fill the registers of a processor. `sparse_layers`:
    layers of which more than half of the weights are zero.
    """

    int8: Count
    float: Count
    by_type: dict[str, Count]
    float_layers: tuple[str, ...] = ()
    narrow_layers: tuple[str, ...] = ()
    unrounded_layers: tuple[str, ...] = ()
    sparse_layers: tuple[str, ...] = ()


class Served(Config):
    """An exported file as its runtime serves it.

    `session` holds the options without which the file gives wrong results on this processor; `latency` is by
    batch size; ratios are against the baseline's file. `worst_class` is the class that lost most against it,
    and what share of right answers it lost.
    """

    file: str
    runtime: str
    threads: Count
    session: dict[str, str] = {}
    size_bytes: Count
    test: float
    per_class: tuple[float | None, ...] = ()
    latency: dict[Count, Latency] = {}
    speedup: dict[Count, float] = {}
    size_ratio: float | None = None
    metric_drop: float | None = None
    worst_class: tuple[Count, float] | None = None
    census: Census | None = None
    slower_because: tuple[str, ...] = ()


class Row(Config):
    """One step.

    `seconds` and `peak_memory_bytes` are of the run that computed it, also when it is a hit now.
    """

    recipe: str
    stage: str
    type: str
    key: Key
    status: Literal["hit", "computed", "failed"]
    seconds: float = 0.0
    peak_memory_bytes: Count | None = None
    figures: Figures = Figures()
    served: Served | None = None
    facts: dict[str, Any] = {}
    error: str = ""


class Requirement(Config):
    """One bound of `require` and the figure it was held against."""

    what: str
    stage: str
    batch_size: Count | None = None
    min: float | None = None
    max: float | None = None
    value: float | None
    met: bool


class Ledger(Config):
    """One run. `rows` are in the order in which the steps ran, those of nested recipes first.

    `quick`: it was made from a part of the data, and its figures are no results. `baselines`: by the name of
    each export, the baseline's file, exported in the same way.
    """

    mcomp: str
    run: str
    recipe: str
    started: str
    status: Literal["done", "require not met", "failed", "interrupted"]
    metric: str
    direction: Literal["higher", "lower"]
    machine: dict[str, str]
    overrides: tuple[str, ...] = ()
    quick: bool = False
    rows: tuple[Row, ...]
    baselines: dict[str, Served] = {}
    require: tuple[Requirement, ...] = ()

    @property
    def baseline(self) -> Served | None:
        """The baseline's file beside that of the last export."""
        return next(reversed(self.baselines.values()), None)
