"""Train several networks that learn from each other; no teacher is needed.

    distill:
      type: distill.online
      method: {type: dml}
      architectures: [{width: 24}]
      training:
        epochs: 12
        optimizer: {type: sgd, lr: 0.05}
        schedule: {type: one_cycle}

The student is trained beside its peers: `peers` networks of its own architecture with other fresh weights, or
one for each of `architectures`, which says what is different from `model` (another `type`, or other fields).

`dml`: each follows the mean of the others. `kdcl`: all follow a teacher made of them. `one`: the peers are
branches on one trunk, which is computed once; `branch` names the modules that each has for itself, and a gate
weighs what they say:

    distill:
      type: distill.online
      method: {type: one, branch: [layer3, fc]}
      peers: 3
      training: {epochs: 12}

The peer that is best on validation goes on, and may be of another architecture; with `keep: first` the
student does. What all of them reached is in the report.

Source: Zhang et al. 2018, arXiv:1706.00384 (dml); Guo et al. 2020, Online Knowledge Distillation via
Collaborative Learning (kdcl); Lan et al. 2018, arXiv:1806.04606 (one).
Differs: peers see the same augmented samples and are updated together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from mcomp.stage import Context, Form, StageConfig, StageResult
from mcomp.training.config import Training
from mcomp_stages.methods.distillation.online_config import Mutual, OnlineMethod

if TYPE_CHECKING:
    from mcomp.model.model import Model


class DistillOnline(StageConfig):
    """Networks that are trained side by side and follow each other."""

    forms = {Form.UNTRAINED: Form.FLOAT, Form.FLOAT: Form.FLOAT}

    type: Literal["distill.online"] = "distill.online"
    method: Annotated[OnlineMethod, Field(description="what the networks follow")] = Mutual()
    peers: Annotated[int, Field(ge=2, le=16, description="networks in all, or branches on the trunk")] = 2
    architectures: Annotated[
        tuple[dict[str, Any], ...],
        Field(description="one for each other peer: what differs from `model`; default: the same"),
    ] = ()
    keep: Annotated[
        Literal["best", "first"], Field(description="best: on validation; first: the recipe's own model")
    ] = "best"
    training: Training

    @model_validator(mode="after")
    def counts_once(self) -> DistillOnline:
        """Refuse architectures that would not be used."""
        if self.architectures and self.method.type == "one":
            raise ValueError("branches have the architecture of the trunk: leave architectures out")
        said = len(self.architectures)
        if said and "peers" in self.model_fields_set and self.peers != said + 1:
            raise ValueError(f"peers is {self.peers}, but the model and {said} architectures are said")
        return self

    def builds(self) -> dict[str, str]:
        said = enumerate(self.architectures)
        return {f"architectures.{number}.type": str(each["type"]) for number, each in said if "type" in each}

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp_stages.methods.distillation.online import learn_together

        chosen, facts = learn_together(
            model, self.method, self.peers, self.architectures, self.training, context, self.keep
        )
        return StageResult(chosen, facts=facts)
