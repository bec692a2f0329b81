"""What was measured, as it is printed, drawn and given to other programs. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from mcomp.config import Config
from mcomp.store.ledger import Key

Figure = Literal["task", "sqnr", "latency"]

SQNR_SAMPLES = 128
# What a part may cost if nobody says otherwise: half a point of a metric between 0 and 1, and noise of a
# tenth of the signal.
USUAL_LIMIT: dict[Figure, float] = {"task": 0.005, "sqnr": 20.0, "latency": 0.0}


@dataclass(frozen=True)
class Asked:
    """What is measured.

    `levels`: what each part is changed by, the stage's own choice if none; `samples`: at most so many, all by
    default. `limit` is what a part may cost at most: a drop of the metric, or the smallest SQNR in dB.
    """

    figure: Figure
    limit: float
    levels: tuple[float, ...] = ()
    samples: int | None = None


def asked(figure: Figure, limit: float | None, levels: tuple[float, ...], samples: int | None) -> Asked:
    """Return what is asked for, with the usual limit and number of samples where nothing is said."""
    some = SQNR_SAMPLES if figure == "sqnr" else None
    return Asked(figure, USUAL_LIMIT[figure] if limit is None else limit, levels, samples or some)


class Cost(Config):
    """One part at one level: the figure of the model with it, and what that costs.

    Of a metric the cost is the drop; of an SQNR in dB, the root mean square of the noise over the signal's;
    of a latency, what is added to the whole model's, as a share of it: negative where time is saved.
    """

    part: str
    level: float
    value: float
    cost: float


class Sensitivity(Config):
    """The costs of all parts of a stage.

    `varies` says what a level is (`bits`, `ratio`). `reference` is the figure of the model as it came in,
    None for an SQNR, which is against it. `limit` is what a part may cost, in the unit of `Cost.cost`.
    `patch` are fields of the stage; `said` is a sentence about them.
    """

    mcomp: str
    started: str
    recipe: str
    stage: str
    type: str
    key: Key
    varies: str
    figure: Figure
    metric: str
    reference: float | None
    limit: float
    samples: int
    costs: tuple[Cost, ...]
    patch: dict[str, Any] = {}
    said: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts, those that cost most first; of latencies those that save most."""
        weight: dict[str, float] = {}
        for each in self.costs:
            weight[each.part] = max(self.weight(each), weight.get(each.part, self.weight(each)))
        return tuple(sorted(weight, key=lambda part: -weight[part]))

    def weight(self, cost: Cost) -> float:
        """Return what is drawn of a cost: of a latency what is saved."""
        return -cost.cost if self.figure == "latency" else cost.cost

    def of(self, part: str) -> tuple[Cost, ...]:
        """Return the costs of one part, from the mildest change to the strongest."""
        return tuple(each for each in self.costs if each.part == part)


def borne(costs: Iterable[Cost], limit: float) -> dict[str, float | None]:
    """Return the strongest level of each part up to which every one costs `limit` at most.

    Costs of one part stand from the mildest change to the strongest.
    """
    found: dict[str, float | None] = {}
    over: set[str] = set()
    for each in costs:
        found.setdefault(each.part, None)
        if each.cost > limit:
            over.add(each.part)
        elif each.part not in over:
            found[each.part] = each.level
    return found
