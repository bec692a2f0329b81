"""Train a student to say what trained teachers say, class by class.

    distill:
      type: distill.offline
      teachers: [{recipe: resnet_teacher.yaml}]
      loss: {type: dkd, temperature: 4.0}
      training:
        epochs: 12
        optimizer: {type: sgd, lr: 0.05}
        schedule: {type: cosine}

`loss` is a term, or a list of terms whose sum is minimised:

    distill:
      type: distill.offline
      teachers: [{recipe: resnet_teacher.yaml}, {recipe: mnist_teacher.yaml}]
      ensemble: {type: confidence}
      loss:
        - {type: dist, temperature: 4.0, weight: 0.5}
        - {type: fitnet, weight: {start: 1.0, end: 0.1}, taps: [{student: layer2, teacher: layer2}]}
      training: {epochs: 12}

Terms about outputs (`kd`, `dkd`, `dist`, `mse`, `cosine`) have a share as their weight; what they leave of 1
is the weight of the task's own loss, unless `labels` says another (`labels: 0` needs no labels). Terms about
features (`fitnet`, `at`, `sp`, `rkd`, `crd`; `hidden` and `relations` for transformers) are added. They
compare places in both models, named by module path or, without `taps`, proposed by shape. What brings a
student's features to a teacher's shape is trained with it and is not in the result. Weights and temperatures
may change while training: `{start: 8, end: 2}`.

Several teachers count equally, by `weights`, or sample by sample by how well they do (`confidence`). Where
the same sample always looks the same, each teacher is asked about it once, and its answers are kept in the
store for other stages and jobs; where samples are augmented at random it is asked for each batch, and the run
says so.

Source: Hinton et al. 2015, arXiv:1503.02531 (kd); Zhao et al. 2022, arXiv:2203.08679 (dkd); Huang et al.
2022, arXiv:2205.10536 (dist); Sun et al. 2024, arXiv:2403.01427 (standardize). Those of the other terms stand
with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mcomp.recipe.schema import RecipeRef
from mcomp.stage import Context, Form, StageConfig, StageResult
from mcomp.training.config import Training
from mcomp_stages.methods.distillation.config import DistilledTraining, Following, require_one_weight_each

if TYPE_CHECKING:
    from mcomp.model.model import Model


class DistillOffline(Following, StageConfig):
    """Distillation from teachers that do not train."""

    version: ClassVar[str] = "3"

    forms = {
        Form.UNTRAINED: Form.FLOAT,
        Form.FLOAT: Form.FLOAT,
        Form.QUANTIZED: Form.QUANTIZED,
    }

    type: Literal["distill.offline"] = "distill.offline"
    teachers: Annotated[tuple[RecipeRef, ...], Field(min_length=1, description="models to learn from")]
    training: Training

    @model_validator(mode="after")
    def speaks_of_its_teachers(self) -> DistillOffline:
        """Refuse weights and terms for teachers that are not there."""
        require_one_weight_each(self, len(self.teachers))
        return self

    def run(self, model: Model, context: Context) -> StageResult:
        from mcomp_stages.methods.distillation.training import fit_with_teachers

        following = {name: getattr(self, name) for name in Following.model_fields}
        fields = {name: getattr(self.training, name) for name in type(self.training).model_fields}
        training = DistilledTraining(**fields, **following, teachers=self.teachers)
        result = fit_with_teachers(model, training, context, label="distill")
        return StageResult(result.model, facts=result.facts())
