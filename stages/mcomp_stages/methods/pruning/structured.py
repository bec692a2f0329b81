"""What the stages that cut channels have in common: fields, and the way from scores to a proven smaller
model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from mcomp.config import module_patterns, shortens_to
from mcomp.stage import Checkpoint, Context, Form, StageConfig, StageResult
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.pruning.config import (
    Importance,
    LayerLimits,
    Normalization,
    Schedule,
    Scope,
    Target,
    Unit,
)

if TYPE_CHECKING:
    from mcomp.data.contract import Batch
    from mcomp.model.model import Model
    from mcomp.sensitivity.trials import Trials
    from mcomp_stages.methods.pruning.cut import Cut
    from mcomp_stages.methods.pruning.evidence import Evidence
    from mcomp_stages.methods.pruning.gradual import Progress
    from mcomp_stages.methods.pruning.group_records import Groups
    from mcomp_stages.methods.pruning.limits import Limits


class StructuredPruning(StageConfig):
    """Base of the stages that cut the least important groups down to a target, then train what is left."""

    forms: ClassVar[Mapping[Form, Form]] = {Form.FLOAT: Form.FLOAT}
    varies: ClassVar[str | None] = "ratio"

    importance: Annotated[Importance, Field(description="what a group of channels is scored by")] = "l2"
    normalization: Annotated[
        Normalization, Field(description="how scores of different layers are compared")
    ] = "mean"
    scope: Annotated[
        Scope, Field(description="global: the lowest of all go; uniform: the same share of every layer")
    ] = "global"
    samples: Annotated[
        int, shortens_to(8, ge=1, description="calibration samples for taylor, obd and apoz")
    ] = 256
    target: Annotated[
        Target | None,
        Field(description="how much to cut: one of macs, params, ratio, latency_ms; default: see layers"),
    ] = None
    nearest: Annotated[
        bool, Field(description="accept the nearest cut below the target, also under 90 % of it")
    ] = False
    round_to: Annotated[int, Field(ge=1, description="keep a multiple of this many channels")] = 8
    min_channels: Annotated[int, Field(ge=1, description="never keep fewer channels than this")] = 8
    max_ratio: Annotated[
        float, Field(gt=0, le=1, description="never remove more than this share of a layer's channels")
    ] = 1.0
    layers: Annotated[
        tuple[LayerLimits, ...], Field(description="other limits, or fixed ratios, for some layers")
    ] = ()
    skip: Annotated[
        tuple[str, ...], module_patterns(description="patterns of layers that keep all their output channels")
    ] = ()
    schedule: Annotated[Schedule, Field(description="in how many cuts the target is reached")] = Schedule()
    recover: Annotated[
        DistilledTraining | None, Field(description="training after the cut, also with teachers")
    ] = None

    @model_validator(mode="after")
    def says_how_much(self) -> StructuredPruning:
        """Refuse a stage that says nothing about how much goes, or that would ignore a field."""
        if self.target is None and not any(each.ratio for each in self.layers):
            raise ValueError("say how much to cut: a target, or a ratio for some layers")
        if self.scope == "uniform" and "normalization" in self.model_fields_set:
            raise ValueError("with scope 'uniform' layers are not compared: leave normalization out")
        if self.schedule.steps > 1 and (self.recover is None or self.target is None):
            raise ValueError("a schedule of several steps needs a target, and recover for what comes between")
        return self

    def timed(self) -> bool:
        return self.target is not None and self.target.latency_ms is not None

    def cut_units(self) -> tuple[Unit, ...] | None:
        """Return what may be cut, None for everything."""
        return None

    def limits(self) -> Limits:
        """Return what holds for every layer without settings of its own."""
        from mcomp_stages.methods.pruning.limits import Limits

        return Limits(self.round_to, self.min_channels, self.max_ratio)

    def run(self, model: Model, context: Context) -> StageResult:
        """Cut a copy of `model`, prove it, and train it, once or in steps. Raises StageError."""
        from mcomp_stages.methods.pruning.gradual import Progress
        from mcomp_stages.methods.pruning.recovery import recovered, trained_between

        steps, progress = self.schedule.steps, Progress(model, self.schedule.steps)
        for number in range(1, steps + 1):
            label = "cut" if steps == 1 else f"cut_{number}"
            done = context.unit(label, partial(self.cut, progress, context))
            progress = progress.after(done.numbers)
            if number < steps:
                assert self.recover is not None
                epochs = self.schedule.epochs
                trained = trained_between(progress.model, self.recover, epochs, context, f"recover_{number}")
                progress = progress.trained(trained)
        return recovered(progress.model, self.recover, progress.facts(), context)

    def trials(self, model: Model, context: Context, levels: tuple[float, ...]) -> Trials:
        """Return cuts of one set of groups after the other. Raises StageError."""
        from mcomp_stages.methods.latency_target import Stopwatch
        from mcomp_stages.methods.pruning.groups import channel_groups
        from mcomp_stages.methods.pruning.limits import set_limits
        from mcomp_stages.methods.pruning.scores import channel_importance
        from mcomp_stages.methods.pruning.trials import pruning_trials

        groups = channel_groups(model.module, context.example, self.skip)
        scores = channel_importance(groups, self.evidence(model, context), self.importance)
        warn_of_what_stays(groups, scores, self.importance, context)
        limits = set_limits(groups, model.module, self.limits(), (), self.cut_units())
        return pruning_trials(model, groups, scores, limits, levels, lambda: Stopwatch(model, context, 1, 1))

    def cut(self, progress: Progress, context: Context) -> Checkpoint:
        """Return the next cut, proven, as edits, and what the report says of it. Raises StageError."""
        from mcomp.errors import StageError
        from mcomp_stages.methods.pruning.edit import channel_edits, edited, stored
        from mcomp_stages.methods.pruning.gradual import next_cut, require_reachable, step_limits
        from mcomp_stages.methods.pruning.groups import channel_groups
        from mcomp_stages.methods.pruning.limits import set_limits
        from mcomp_stages.methods.pruning.proof import require_equal_to_masked
        from mcomp_stages.methods.pruning.scores import channel_importance

        model = progress.model
        groups = channel_groups(model.module, context.example, self.skip)
        evidence = self.evidence(model, context)
        scores = channel_importance(groups, evidence, self.importance, self.normalization, self.scope)
        warn_of_what_stays(groups, scores, self.importance, context)
        usual, layers = step_limits(self.limits(), self.layers, progress)
        limits = set_limits(groups, model.module, usual, layers, self.cut_units())
        if progress.number == 1 < progress.steps and self.target is not None:
            whole = set_limits(groups, model.module, self.limits(), self.layers, self.cut_units())
            require_reachable(groups, scores, whole, self.target)
        cut, facts = next_cut(groups, scores, limits, self.target, self.nearest, progress, context)
        if not cut.removed.any() and progress.number == 1:
            raise StageError("nothing was cut: the target is met by the model as it is")
        edits = channel_edits(model.module, cut)
        require_equal_to_masked(edited(model, edits), model, cut, context.example)
        facts = {**cut_facts(cut), **facts}
        return Checkpoint(numbers={"edits": stored(edits), "facts": facts, "shares": dict(cut.shares)})

    def evidence(self, model: Model, context: Context) -> Evidence:
        """Return what scores are computed from: a copy of the model, and samples of the calibration split."""
        from mcomp.training.device import chosen_device
        from mcomp_stages.methods.pruning.evidence import Evidence

        module = model.copy().module.to(chosen_device(context.compute))
        return Evidence(
            module,
            context.generator("importance"),
            lambda: calibration_batches(context, self.samples),
            context.task.loss,
        )


def calibration_batches(context: Context, samples: int) -> Iterator[Batch]:
    """Yield the first samples of the calibration split."""
    import torch

    split = context.data.split("calibration")
    positions = torch.split(torch.arange(min(samples, len(split))), context.batch_size)
    return (split.batch(some) for some in positions)


def warn_of_what_stays(groups: Groups, scores: Any, importance: str, context: Context) -> None:
    """Name the operators without a rule, and the layers that an importance cannot score."""
    import numpy as np

    for operator in groups.unknown:
        context.reporter.warn(f"{operator} is not known to pruning: the channels it sees stay")
    unscored = [each.layers for each in groups.sets if np.isnan(scores[each.groups]).any()]
    names = [name for layers in unscored for name in layers]
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        context.reporter.warn(f"{importance} has no score for {', '.join(names[:3])}{more}: they stay")


def cut_facts(cut: Cut) -> dict[str, Any]:
    """Return what the report says: groups, shares, and output channels [before, after] by layer."""
    channels = {
        axis.name.rpartition(".")[0]: [len(axis.groups), len(cut.kept_indices[axis.name, axis.axis])]
        for axis in cut.groups.axes
        if axis.output
        and len(cut.groups.shapes.get(axis.name, ())) > 1
        and (axis.name, axis.axis) in cut.kept_indices
    }
    return {
        "groups": cut.groups.num_groups,
        "groups_cut": int(cut.removed.sum()),
        "sets": len(cut.groups.sets),
        "macs_share": round(cut.shares["macs"], 4),
        "params_share": round(cut.shares["params"], 4),
        "channels_share": round(cut.shares["channels"], 4),
        "channels": channels,
    }
