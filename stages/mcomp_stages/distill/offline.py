"""Train a student to say what trained teachers say, class by class.

    distill:
      type: distill.offline
      teachers: [{recipe: resnet_teacher.yaml}]
      loss: {type: dkd, temperature: 4.0}
      training:
        epochs: 12
        optimizer: {type: sgd, lr: 0.05}
        schedule: {type: cosine}

The teachers are run once over the training split if its samples always look the same. Several teachers count
equally: the distance is the mean of the distances to each.

Source: Hinton et al. 2015, arXiv:1503.02531 (kd); Zhao et al. 2022, arXiv:2203.08679 (dkd).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.recipe.schema import RecipeRef
from mcomp.stage import Context, Form, StageConfig, StageResult
from mcomp.training.config import Training
from mcomp_stages.methods.distillation.config import KD, DistillationLoss, DistilledTraining

if TYPE_CHECKING:
    from mcomp.model.model import Model


class DistillOffline(StageConfig):
    """Distillation from teachers that do not train."""

    forms = {
        Form.UNTRAINED: Form.FLOAT,
        Form.FLOAT: Form.FLOAT,
        Form.QUANTIZED: Form.QUANTIZED,
    }

    type: Literal["distill.offline"] = "distill.offline"
    teachers: Annotated[tuple[RecipeRef, ...], Field(min_length=1, description="models to learn from")]
    loss: Annotated[DistillationLoss, Field(description="how teachers are followed")] = KD()
    training: Training

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp_stages.methods.distillation.training import fit_with_teachers

        fields = {name: getattr(self.training, name) for name in type(self.training).model_fields}
        training = DistilledTraining(**fields, teachers=self.teachers, loss=self.loss)
        result = fit_with_teachers(model, training, context, label="distill")
        return StageResult(result.model, facts=result.facts())
