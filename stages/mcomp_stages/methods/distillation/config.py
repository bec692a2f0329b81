"""What a recipe may say about teachers. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mcomp.config import Config
from mcomp.recipe.schema import RecipeRef
from mcomp.training.config import Training


class SoftTargets(Config):
    """Base of the losses on softened outputs."""

    temperature: Annotated[
        float, Field(gt=0, description="both outputs are divided by it before the softmax")
    ] = 4.0
    weight: Annotated[
        float,
        Field(gt=0, le=1, description="share of the distillation term; the rest is the task's own loss"),
    ] = 0.7


class KD(SoftTargets):
    """Divergence from the teacher's softened classes (Hinton et al. 2015, arXiv:1503.02531)."""

    type: Literal["kd"] = "kd"


class DKD(SoftTargets):
    """The same divergence in two parts, target class and the others (Zhao et al. 2022, arXiv:2203.08679).

    Differs: no warm-up; the task's loss and the distillation term are mixed by `weight` instead of added.
    """

    type: Literal["dkd"] = "dkd"
    alpha: Annotated[float, Field(ge=0, description="weight of the target class against the rest")] = 1.0
    beta: Annotated[float, Field(ge=0, description="weight of the classes that are not the target")] = 2.0


DistillationLoss = Annotated[KD | DKD, Field(discriminator="type")]


class DistilledTraining(Training):
    """How a stage trains, from labels alone or also from teachers."""

    teachers: Annotated[
        tuple[RecipeRef, ...], Field(description="models to learn from; none: labels only")
    ] = ()
    loss: Annotated[DistillationLoss, Field(description="how teachers are followed")] = KD()

    @model_validator(mode="after")
    def loss_needs_teachers(self) -> DistilledTraining:
        """Refuse a distillation loss that nothing would use."""
        if "loss" in self.model_fields_set and not self.teachers:
            raise ValueError("loss says how teachers are followed, but there are no teachers")
        return self
