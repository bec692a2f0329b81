"""Cut whole channels: smaller tensors, the same architecture, no special runtime.

    prune:
      type: prune.channels
      importance: l2
      target: {macs: 0.5}
      recover: {epochs: 4}

Which channels must go together is found by running the model's graph on labels, so residual connections,
concatenations, grouped convolutions, attention (a head goes as a whole) and norms need no list of layers.
Channels that feed the model's output, or an operator that is not understood, stay. After the cut the model
is compared with the original with the same channels set to zero (a norm over channels is one over those that
stay); the stage fails if they differ.

`target` is at most what stays (`macs`, `params`: shares to keep; `ratio`: share of channels to remove).
One-shot pruning costs much accuracy that comes back with training: give `recover`, best with `teachers`.

Sources: Li et al. 2017, arXiv:1608.08710 (importance); Fang et al. 2023, arXiv:2301.12900 (groups).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from mcomp.config import module_patterns
from mcomp.errors import StageError
from mcomp.stage import Checkpoint, Context, Form, StageConfig, StageResult
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.pruning.config import Importance, Target

if TYPE_CHECKING:
    from mcomp.model.model import Model
    from mcomp_stages.methods.pruning.cut import Cut


class PruneChannels(StageConfig):
    """Cut the least important channels down to a target, then train what is left."""

    version: ClassVar[str] = "2"
    forms: ClassVar[Mapping[Form, Form]] = {Form.FLOAT: Form.FLOAT}

    type: Literal["prune.channels"] = "prune.channels"
    importance: Annotated[
        Importance, Field(description="score of a group of channels: norm of its weights, or random")
    ] = "l2"
    target: Annotated[Target, Field(description="how much to cut: one of macs, params, ratio")]
    nearest: Annotated[
        bool, Field(description="accept the nearest cut below the target, also under 90 % of it")
    ] = False
    round_to: Annotated[int, Field(ge=1, description="keep a multiple of this many channels")] = 8
    min_channels: Annotated[int, Field(ge=1, description="never keep fewer channels than this")] = 8
    skip: Annotated[
        tuple[str, ...], module_patterns(description="patterns of layers that keep all their output channels")
    ] = ()
    recover: Annotated[
        DistilledTraining | None, Field(description="training after the cut, also with teachers")
    ] = None

    def run(self, model: Model, context: Context) -> StageResult:
        """Cut a copy of `model`, prove it, and train it. Raises StageError."""
        from mcomp_stages.methods.pruning.edit import edited, read_edits

        chosen = context.unit("cut", lambda: self.cut(model, context)).numbers
        return self.recovered(edited(model, read_edits(chosen["edits"])), chosen["facts"], context)

    def cut(self, model: Model, context: Context) -> Checkpoint:
        """Return a cut that is proven, as an edit, and what the report says of it. Raises StageError."""
        from mcomp_stages.methods.pruning.cut import choose_cut
        from mcomp_stages.methods.pruning.edit import channel_edits, edited, stored
        from mcomp_stages.methods.pruning.groups import channel_groups
        from mcomp_stages.methods.pruning.importance import channel_importance
        from mcomp_stages.methods.pruning.proof import require_equal_to_masked

        groups = channel_groups(model.module, context.example, self.skip)
        for operator in groups.unknown:
            context.reporter.warn(f"{operator} is not known to pruning: the channels it sees stay")
        parameters = dict(model.module.named_parameters())
        scores = channel_importance(groups, parameters, self.importance, context.generator("importance"))
        cut = choose_cut(
            groups,
            scores,
            self.target,
            round_to=self.round_to,
            min_channels=self.min_channels,
            nearest=self.nearest,
        )
        if not cut.removed.any():
            raise StageError("nothing was cut: the target is met by the model as it is")
        edits = channel_edits(model.module, cut)
        require_equal_to_masked(edited(model, edits), model, cut, context.example)
        return Checkpoint(numbers={"edits": stored(edits), "facts": cut_facts(cut)})

    def recovered(self, pruned: Model, facts: dict[str, Any], context: Context) -> StageResult:
        """Train the cut model, if asked to."""
        if self.recover is None:
            return StageResult(pruned, facts=facts)
        from mcomp_stages.methods.distillation.training import fit_with_teachers

        fit = fit_with_teachers(pruned, self.recover, context, "recover")
        return StageResult(fit.model, facts={**facts, **fit.facts()})


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
        "channels": channels,
    }
