"""Let training decide what can go: a penalty makes weights small where they matter little, then they are cut.

    prune:
      type: prune.learned
      penalty: {type: group_lasso, strength: 0.01}
      training: {epochs: 10}
      target: {macs: 0.5}
      normalization: none
      recover: {epochs: 4}

`penalty`: `l1` and `l2` on all weights; `group_lasso` on whole groups (`coupled`: what is cut together;
`filters`, `channels`, `layers` of single layers); `slimming` on the scales of norms (with `importance:
bn_scale`); `growing`: the cut is chosen first, and an L2 on what it takes grows until little depends on it.
The strength rises from 0 along `ramp`. After every update the weights take one step towards zero of learning
rate times strength, so zeros are exact; the more updates, the less strength is needed. Of this training the
last epoch is kept. Then channels are cut as `prune.channels` does, with its fields, and `recover` trains what
is left. The report draws the scores of all groups before and after.

Sources: Wen et al. 2016, arXiv:1608.03665 (group lasso over filters, channels and layers); Liu et al. 2017,
arXiv:1708.06519 (slimming); Wang et al. 2021, arXiv:2012.09243 (growing regularisation). Differs: steps are
proximal and not gradients; norms of groups are weighed by the root of their size; coupled groups are those of
the executed graph, overlaps shrunk by each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from mcomp.stage import Context, StageResult
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.pruning.structured import StructuredPruning
from mcomp_stages.methods.sparsity.penalty_config import PenaltyChoice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from mcomp.model.edits import Edit
    from mcomp.model.model import Model
    from mcomp.training.loop import Fit
    from mcomp_stages.methods.sparsity.shrinkage import Shrinking

POINTS = 41


class PruneLearned(StructuredPruning):
    """Train with a penalty, cut what it made small down to a target, then train what is left."""

    type: Literal["prune.learned"] = "prune.learned"
    penalty: PenaltyChoice
    training: DistilledTraining

    @model_validator(mode="after")
    def looks_at_what_shrank(self) -> PruneLearned:
        """Refuse scores that would not see what the penalty did."""
        if self.penalty.type == "slimming" and self.importance != "bn_scale":
            raise ValueError("slimming shrinks the scales of norms: set importance: bn_scale")
        if self.penalty.type == "growing" and self.schedule.steps > 1:
            raise ValueError("growing chooses its one cut before training: leave schedule out")
        return self

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp_stages.methods.pruning.edit import edited, read_edits
        from mcomp_stages.methods.pruning.gradual import Progress
        from mcomp_stages.methods.pruning.recovery import recovered

        if self.penalty.type != "growing":
            fit = self.penalized(model, context)
            cut = super().run(fit.model, context)
        else:
            chosen = context.unit("cut", lambda: self.cut(Progress(model, 1), context)).numbers
            edits = read_edits(chosen["edits"])
            fit = self.penalized(model, context, edits)
            cut = recovered(edited(fit.model, edits), self.recover, chosen["facts"], context)
        scores = {"before": self.score_curve(model, context), "after": self.score_curve(fit.model, context)}
        facts = {**cut.facts, "penalized": fit.facts(), "group_scores": scores}
        return StageResult(cut.model, facts=facts)

    def penalized(self, model: Model, context: Context, cut: Sequence[Edit] = ()) -> Fit:
        """Return the model trained with the penalty."""
        from mcomp.data.sampler import cut_batches
        from mcomp_stages.methods.distillation.training import fit_with_teachers
        from mcomp_stages.methods.pruning.groups import channel_groups
        from mcomp_stages.methods.sparsity.chosen import chosen_weights
        from mcomp_stages.methods.sparsity.penalties import PENALTIES, Penalized
        from mcomp_stages.methods.sparsity.shrinkage import Shrinking

        groups = channel_groups(model.module, context.example, self.skip)
        about = Penalized(chosen_weights(model.module, skip=self.skip), groups, cut)
        steps = len(cut_batches(len(context.data.split("train")), context.batch_size))
        num_updates = self.training.epochs * steps

        def constrain(module: nn.Module) -> Shrinking:
            shrink = PENALTIES[self.penalty.type](module, self.penalty, about)
            ramp = round(self.penalty.ramp * num_updates)
            return Shrinking(shrink, self.penalty.strength, ramp, num_updates)

        return fit_with_teachers(model, self.training, context, "penalty", constrain=constrain)

    def score_curve(self, model: Model, context: Context) -> list[float]:
        """Return the scores of all groups, ascending, at even distances: what the report draws."""
        import numpy as np

        from mcomp_stages.methods.pruning.groups import channel_groups
        from mcomp_stages.methods.pruning.scores import IMPORTANCE

        groups = channel_groups(model.module, context.example, self.skip)
        scores = IMPORTANCE[self.importance](groups, self.evidence(model, context))
        known = scores[~np.isnan(scores)]
        curve: list[Any] = np.quantile(known, np.linspace(0, 1, POINTS)).tolist() if len(known) else []
        return [float(f"{value:.4g}") for value in curve]
