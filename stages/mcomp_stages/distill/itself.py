"""Train a network that is its own teacher.

    distill:
      type: distill.self
      method: {type: ps_kd, weight: 0.8}
      training:
        epochs: 12
        optimizer: {type: sgd, lr: 0.05}
        schedule: {type: one_cycle}

`ps_kd`: from the second epoch on, targets are mixed with what the network said about the same sample an epoch
ago; the share of that grows up to `weight`. Probabilities become better calibrated.

`byot`: heads behind inner modules (`heads`, by pattern; default: where the size of the features changes, or
all blocks of a transformer) learn from labels and from the network's own output; they are gone from the
result. With `keep: layer2` the result is the network that ends at the head behind it: faster and smaller, for
maps and where only a mean and a linear follow.

`born_again`: `generations` trainings, each from fresh weights, the first on labels alone, each other one also
on what the generation before says, by `loss` (the terms of `distill.offline`). The best on validation goes
on.

Source: Kim et al. 2021, arXiv:2006.12000 (ps_kd); Zhang et al. 2019, arXiv:1905.08094 (byot); Furlanello et
al. 2018, arXiv:1805.04770 (born_again). Differs: byot's heads are a 1x1 convolution or linear, ReLU, mean and
linear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.stage import Context, Form, StageConfig, StageResult
from mcomp.training.config import Training
from mcomp_stages.methods.distillation.self_config import PastSelf, SelfMethod

if TYPE_CHECKING:
    from mcomp.model.model import Model


class DistillSelf(StageConfig):
    """Self-distillation: from inner heads, from the past, or from generation to generation."""

    forms = {Form.UNTRAINED: Form.FLOAT, Form.FLOAT: Form.FLOAT}

    type: Literal["distill.self"] = "distill.self"
    method: Annotated[SelfMethod, Field(description="what of itself the network follows")] = PastSelf()
    training: Training

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp_stages.methods.distillation.itself import taught_by_itself

        chosen, facts = taught_by_itself(model, self.method, self.training, context)
        return StageResult(chosen, facts=facts)
