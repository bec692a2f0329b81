"""Channels cut in one place after the other, for `mcomp sensitivity`, and the ratios by layer that follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from torch import nn

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.sensitivity.trials import Levels, Patch, Timing, Trial, Trials
from mcomp_stages.methods.latency_target import Stopwatch
from mcomp_stages.methods.pruning.cut import Cut, choose_cut
from mcomp_stages.methods.pruning.edit import channel_edits, edited
from mcomp_stages.methods.pruning.group_records import Groups
from mcomp_stages.methods.pruning.importance import Scores
from mcomp_stages.methods.pruning.limits import Limits, unit_sizes

RATIOS = (0.125, 0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Places:
    """Where a model can be cut: its groups, their scores, and what each set may keep, by the set's name."""

    model: Model
    groups: Groups
    scores: Scores
    limits: Mapping[str, Limits]

    def cut(self, ratios: Mapping[str, float]) -> Cut:
        """Return the cut that takes these shares of these sets, the lowest scores first."""
        limits = [
            replace(each, ratio=ratios[name], max_ratio=1.0)
            if name in ratios
            else replace(each, ratio=None, whole=True)
            for name, each in self.limits.items()
        ]
        return choose_cut(self.groups, self.scores, None, limits=limits)

    def without(self, name: str, ratio: float) -> Model:
        """Return the model with a share of one set cut away."""
        return edited(self.model, channel_edits(self.model.module, self.cut({name: ratio})))

    @contextmanager
    def module_without(self, name: str, ratio: float) -> Iterator[nn.Module]:
        """Give its module in inference mode."""
        yield self.without(name, ratio).module.eval()


def pruning_trials(
    model: Model,
    groups: Groups,
    scores: Scores,
    limits: Sequence[Limits],
    levels: Sequence[float] = (),
    watch: Callable[[], Stopwatch] | None = None,
) -> Trials:
    """Return the trials of a stage that cuts channels by `scores` within `limits` (one for each set).

    `levels` are shares of the channels to remove; each is moved to the nearest that rounding and floors
    allow, and one that removes nothing is left out. `watch` times models as they would be served. Raises
    StageError for shares that are none.
    """
    wrong = [level for level in levels if not 0 < level < 1]
    if wrong:
        raise StageError(f"a ratio lies between 0 and 1, not {wrong[0]:g}")
    named = dict(zip(names(groups), limits, strict=True))
    places = Places(model, groups, scores, named)
    sizes = zip(named, unit_sizes(groups), groups.sets, strict=True)
    trials = [
        Trial(name, ratio, partial(places.module_without, name, ratio))
        for name, unit, group_set in sizes
        if not np.isnan(scores[group_set.groups]).any()
        for ratio in allowed(named[name], len(group_set.groups), unit, sorted(levels) or RATIOS)
    ]
    return Trials(
        model.copy().module.eval(),
        tuple(trials),
        partial(patch, places),
        None if watch is None else partial(timing, places, watch),
    )


def timing(places: Places, watch: Callable[[], Stopwatch]) -> Timing:
    """Return what times each trial beside the whole model, in turns."""
    started = watch()
    return Timing(started.whole_ms, lambda trial: started.ms(places.without(trial.part, trial.level)))


def names(groups: Groups) -> list[str]:
    """Return a name for each set: the first layer that makes its channels, with a number where it is not the
    first set of that layer.
    """
    count: Counter[str] = Counter()
    found = []
    for group_set in groups.sets:
        layer = next(iter(group_set.layers), "")
        count[layer] += 1
        found.append(layer if count[layer] == 1 else f"{layer}#{count[layer]}")
    return found


def allowed(limits: Limits, size: int, unit: int, ratios: Sequence[float]) -> list[float]:
    """Return the shares, ascending, that a set of `size` groups can lose in place of these."""
    if limits.whole:
        return []
    kept = {replace(limits, ratio=ratio).levels(size, unit)[0] for ratio in ratios}
    return [1 - each / size for each in sorted(kept, reverse=True) if each < size]


def patch(places: Places, levels: Levels) -> Patch:
    """Return the ratios that each set bears, in place of a target; what that keeps of the model is said.

    Several sets that one layer makes get the smallest of their ratios: a pattern means all of them.
    """
    by_layer: dict[str, float] = {}
    for name, ratio in levels.items():
        layer = name.partition("#")[0]
        by_layer[layer] = min(ratio or 0.0, by_layer.get(layer, 1.0))
    ratios = {layer: ratio for layer, ratio in by_layer.items() if layer and ratio > 0}
    if not ratios:
        return Patch(said="whatever is cut costs more than the limit: raise it, or try smaller ratios")
    shares = places.cut(
        {name: ratios[name.partition("#")[0]] for name in levels if name.partition("#")[0] in ratios}
    ).shares
    layers = [{"match": layer, "ratio": round(ratio, 4)} for layer, ratio in ratios.items()]
    said = (
        f"{len(ratios)} of {len(by_layer)} places can be cut; all of these cuts together keep "
        f"{shares['macs']:.1%} of the multiply-adds and {shares['params']:.1%} of the parameters"
    )
    return Patch({"target": None, "layers": layers}, said)
