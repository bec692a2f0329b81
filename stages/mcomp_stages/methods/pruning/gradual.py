"""A target reached in steps: each cuts the same share of what is left, so that late steps cut little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from mcomp.model.model import Model
from mcomp.stage import Context
from mcomp_stages.methods.latency_target import Stopwatch, largest_within
from mcomp_stages.methods.pruning.config import LayerLimits, Quantity, Target
from mcomp_stages.methods.pruning.cut import Cut, choose_cut, smallest_share
from mcomp_stages.methods.pruning.edit import channel_edits, edited, read_edits
from mcomp_stages.methods.pruning.group_records import Groups
from mcomp_stages.methods.pruning.importance import Scores
from mcomp_stages.methods.pruning.limits import Limits

QUANTITIES: tuple[Quantity, ...] = ("macs", "params", "channels")
ALMOST_ALL = 1 - 1e-9  # a target is a share below 1


@dataclass(frozen=True)
class Progress:
    """How far a stage has come: the model that it was given first, the model now, and what was cut.

    `cuts` are what the report says of each cut, `shares` what each left, exactly.
    """

    first: Model
    steps: int
    now: Model | None = None
    cuts: tuple[Mapping[str, Any], ...] = ()
    shares: tuple[Mapping[Quantity, float], ...] = ()

    @property
    def model(self) -> Model:
        """The model that is cut next."""
        return self.now or self.first

    @property
    def number(self) -> int:
        """The step that comes, from 1."""
        return len(self.cuts) + 1

    @property
    def is_last(self) -> bool:
        """Whether the next step is the last."""
        return self.number == self.steps

    def after(self, cut: Mapping[str, Any]) -> Progress:
        """Return the progress after one more cut, from what a stage stored of it."""
        return replace(
            self,
            now=edited(self.model, read_edits(cut["edits"])),
            cuts=(*self.cuts, cut["facts"]),
            shares=(*self.shares, cut["shares"]),
        )

    def trained(self, model: Model) -> Progress:
        """Return the progress with the weights of a trained model."""
        return replace(self, now=model)

    def done(self, quantity: Quantity) -> float:
        """Return the share of a quantity that earlier cuts left."""
        return prod(shares[quantity] for shares in self.shares)

    def share_now(self, keep: float, quantity: Quantity) -> float:
        """Return the share of what is left that the next step keeps, on the way to `keep` of all."""
        return float((keep / self.done(quantity)) ** (1 / (self.steps - len(self.cuts))))

    def facts(self) -> dict[str, Any]:
        """Return what the report says of all cuts together."""
        if len(self.cuts) == 1:
            return dict(self.cuts[0])
        first, last = self.cuts[0], self.cuts[-1]
        channels: dict[str, list[int]] = {}
        for facts in self.cuts:
            for layer, (before, after) in facts["channels"].items():
                channels[layer] = [channels.get(layer, [before])[0], after]
        return {
            **last,
            "groups": first["groups"],
            "groups_cut": sum(facts["groups_cut"] for facts in self.cuts),
            **{f"{name}_share": round(self.done(name), 4) for name in QUANTITIES},
            "channels": channels,
            "steps": [facts["macs_share"] for facts in self.cuts],
        }


def step_limits(
    usual: Limits, layers: Sequence[LayerLimits], progress: Progress
) -> tuple[Limits, tuple[LayerLimits, ...]]:
    """Return the limits of one step: what layers lose at a given ratio goes with the first step, the largest
    shares are divided among all.
    """
    if progress.steps == 1:
        return usual, tuple(layers)

    def divided(share: float) -> float:
        return float(1 - (1 - share) ** (1 / progress.steps))

    changed = []
    for layer in layers:
        update: dict[str, float] = {}
        if layer.max_ratio is not None:
            update["max_ratio"] = divided(layer.max_ratio)
        if layer.ratio is not None and progress.number > 1:
            update["ratio"] = 0.0
        changed.append(layer.model_copy(update=update))
    return replace(usual, max_ratio=divided(usual.max_ratio)), tuple(changed)


def next_cut(
    groups: Groups,
    scores: Scores,
    limits: Sequence[Limits],
    target: Target | None,
    nearest: bool,
    progress: Progress,
    context: Context,
) -> tuple[Cut, dict[str, Any]]:
    """Return the cut of one step, and what is to be said of how it was found. Raises StageError."""
    if target is None:
        return choose_cut(groups, scores, None, limits=limits), {}
    if target.latency_ms is not None and (progress.number == 1 or progress.is_last):
        return timed_cut(groups, scores, limits, target, progress, context)
    goal = target if target.latency_ms is None else Target(macs=progress.cuts[0]["goal_share"])
    return step_towards(goal, groups, scores, limits, nearest, progress), {}


def step_towards(
    goal: Target,
    groups: Groups,
    scores: Scores,
    limits: Sequence[Limits],
    nearest: bool,
    progress: Progress,
) -> Cut:
    """Return the cut of one step on the way to shares of the first model."""
    share = progress.share_now(goal.keep, goal.quantity)
    if share >= 1:  # rounding took more than was asked for
        return nothing_of(groups)
    on_the_way = nearest or not progress.is_last
    return choose_cut(groups, scores, goal.with_share(share), limits=limits, nearest=on_the_way)


def nothing_of(groups: Groups) -> Cut:
    """Return the cut that cuts nothing."""
    removed = np.zeros(groups.num_groups, dtype=np.bool_)
    return Cut(groups, removed, dict.fromkeys(QUANTITIES, 1.0))


def timed_cut(
    groups: Groups,
    scores: Scores,
    limits: Sequence[Limits],
    target: Target,
    progress: Progress,
    context: Context,
) -> tuple[Cut, dict[str, Any]]:
    """Return the smallest cut that is fast enough, or of several steps the first towards it."""
    assert target.latency_ms is not None
    model = progress.model
    label = f"timing-{progress.number}"
    watch = Stopwatch(progress.first, context, target.batch_size, target.threads, label)
    current_ms = watch.whole_ms if model is progress.first else watch.ms(model)
    if progress.number > 1 and current_ms <= target.latency_ms:
        return nothing_of(groups), {"latency": watch.facts(target.latency_ms, current_ms)}
    found = largest_within(
        target.latency_ms,
        smallest_share(groups, scores, limits),
        current_ms,
        lambda share: choose_cut(
            groups, scores, Target(macs=min(share, ALMOST_ALL)), limits=limits, nearest=True
        ),
        lambda cut: watch.ms(edited(model, channel_edits(model.module, cut))),
    )
    facts = {"latency": watch.facts(target.latency_ms, found.chosen.ms, found.tries)}
    if progress.is_last:
        return found.made, facts
    goal = found.made.shares["macs"]
    first = step_towards(Target(macs=goal), groups, scores, limits, True, progress)
    return first, {**facts, "goal_share": goal}


def require_reachable(groups: Groups, scores: Scores, limits: Sequence[Limits], target: Target) -> None:
    """Raise StageError if no number of steps reaches a target: before any of them trains."""
    if target.latency_ms is None:
        choose_cut(groups, scores, target, limits=limits, nearest=True)
