"""Layers factorized one by one, for `mcomp sensitivity`, and the ranks by layer that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.sensitivity.trials import Levels, Patch, Timing, Trial, Trials
from mcomp_stages.methods.latency_target import Stopwatch
from mcomp_stages.methods.lowrank.candidates import Candidate
from mcomp_stages.methods.lowrank.decompose import decomposed
from mcomp_stages.methods.lowrank.edit import Factorized, LowRank
from mcomp_stages.methods.lowrank.ranks import Ladder, Ranks, ladder
from mcomp_stages.methods.size import shares, totals

RATIOS = (0.25, 0.5, 0.75)

ByRatio = Mapping[float, Ranks]
"""Ranks by the share of a layer's multiply-adds that they save."""


@dataclass(frozen=True)
class Places:
    """The layers of a model by path, each with the ranks that are tried."""

    model: Model
    example: Mapping[str, Tensor]
    ranks: Mapping[str, ByRatio]

    def edit(self, ratios: Mapping[str, float]) -> LowRank:
        """Return the change that saves these shares of these layers."""
        layers = (Factorized(module=path, ranks=self.ranks[path][ratio]) for path, ratio in ratios.items())
        return LowRank(layers=tuple(layers))

    def thin(self, path: str, ratio: float) -> Model:
        """Return the model with one layer factorized."""
        return decomposed(self.model, self.edit({path: ratio}))

    @contextmanager
    def thin_module(self, path: str, ratio: float) -> Iterator[nn.Module]:
        """Give its module in inference mode."""
        yield self.thin(path, ratio).module.eval()


def lowrank_trials(
    model: Model,
    example: Mapping[str, Tensor],
    candidates: Mapping[str, Candidate],
    round_to: int,
    levels: Sequence[float] = (),
    watch: Callable[[], Stopwatch] | None = None,
) -> Trials:
    """Return the trials of a stage that factorizes `candidates`.

    `levels` are shares of a layer's multiply-adds to save; each is moved up to what ranks allow, and one that
    none allows is left out. `watch` times models as they would be served. Raises StageError for shares that
    are none.
    """
    wrong = [level for level in levels if not 0 < level < 1]
    if wrong:
        raise StageError(f"a ratio lies between 0 and 1, not {wrong[0]:g}")
    ratios = sorted(levels) or RATIOS
    ladders = {path: ladder(each.layer, each.positions, round_to) for path, each in candidates.items()}
    places = Places(model, example, {path: by_ratio(each, ratios) for path, each in ladders.items()})
    trials = [
        Trial(path, ratio, partial(places.thin_module, path, ratio))
        for path, ranks in places.ranks.items()
        for ratio in ranks
    ]
    return Trials(
        model.copy().module.eval(),
        tuple(trials),
        partial(patch, places),
        None if watch is None else partial(timing, places, watch),
    )


def by_ratio(steps: Ladder, ratios: Sequence[float]) -> dict[float, Ranks]:
    """Return, for each share of a layer's cost to save, the ranks that save it and lose least.

    The keys are what is really saved, ascending.
    """
    whole = steps.costs[-1]
    found: dict[float, Ranks] = {}
    for ratio in ratios:
        enough = np.flatnonzero(steps.costs <= (1 - ratio) * whole)
        ranks = steps.ranks[enough[-1]] if len(enough) else None
        if ranks is not None:
            found[round(1 - float(steps.costs[enough[-1]]) / float(whole), 4)] = ranks
    return found


def timing(places: Places, watch: Callable[[], Stopwatch]) -> Timing:
    """Return what times each trial beside the whole model, in turns."""
    started = watch()
    return Timing(started.whole_ms, lambda trial: started.ms(places.thin(trial.part, trial.level)))


def patch(places: Places, levels: Levels) -> Patch:
    """Return the ranks that each layer bears, in place of a target; what they keep of the model is said."""
    ratios = {path: ratio for path, ratio in levels.items() if ratio is not None}
    if not ratios:
        return Patch(said="whatever is factorized costs more than the limit: raise it, or try smaller ratios")
    edit = places.edit(ratios)
    left = shares(places.model.edited(edit), totals(places.model, places.example), places.example)
    ranks = [{"match": each.module, "ranks": list(each.ranks)} for each in edit.layers]
    said = (
        f"{len(ratios)} of {len(levels)} layers can be factorized; all of them together keep "
        f"{left['macs_share']:.1%} of the multiply-adds and {left['params_share']:.1%} of the parameters"
    )
    return Patch({"target": None, "ranks": ranks}, said)
