"""What a recipe may say about teachers. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mcomp.config import Config
from mcomp.recipe.schema import RecipeRef
from mcomp.training.config import Training
from mcomp_stages.methods.distillation.terms import DKD, KD, DistillationLoss, OutputTerm, Ramp

__all__ = ["DKD", "KD", "DistillationLoss", "DistilledTraining", "Following"]


class Mean(Config):
    """All teachers count equally."""

    type: Literal["mean"] = "mean"


class Weighted(Config):
    """Each teacher counts with a weight; their sum is brought to 1."""

    type: Literal["weighted"] = "weighted"
    weights: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1, description="one for each teacher")
    ]


class Confident(Config):
    """Teachers count more on samples that they get right (CA-MKD: Zhang et al. 2022, arXiv:2201.00007)."""

    type: Literal["confidence"] = "confidence"


Ensemble = Annotated[Mean | Weighted | Confident, Field(discriminator="type")]


class Following(Config):
    """How teachers are followed; the teachers themselves are a field of who follows them."""

    loss: Annotated[
        DistillationLoss, Field(description="how teachers are followed: a term, or several in a list")
    ] = (KD(),)
    labels: Annotated[
        float | None,
        Field(ge=0, description="weight of the task's own loss; default: what the output terms leave of 1"),
    ] = None
    ensemble: Annotated[Ensemble, Field(description="how several teachers count")] = Mean()
    cache_bytes: Annotated[
        int, Field(ge=0, description="keep a teacher's outputs up to this size; 0: ask it for each batch")
    ] = 2**30

    @model_validator(mode="after")
    def shares_are_shares(self) -> Following:
        """Refuse output terms that leave less than nothing to the task's own loss."""
        shares = [each.weight for each in self.loss if isinstance(each, OutputTerm)]
        largest = sum(max(each.start, each.end) if isinstance(each, Ramp) else each for each in shares)
        if self.labels is None and largest > 1 + 1e-9:
            raise ValueError(
                f"the output terms have weights of {largest:g} together; say `labels`, or at most 1"
            )
        return self


def require_one_weight_each(following: Following, num_teachers: int) -> None:
    """Raise ValueError if the weights or the terms speak of teachers that are not there."""
    ensemble = following.ensemble
    if isinstance(ensemble, Weighted) and len(ensemble.weights) != num_teachers:
        raise ValueError(f"ensemble has {len(ensemble.weights)} weights for {num_teachers} teachers")
    for term in following.loss:
        of = getattr(term, "of", 0)
        if of >= num_teachers:
            raise ValueError(f"a term is about teacher {of}, but there are {num_teachers}, from 0")


class DistilledTraining(Following, Training):
    """How a stage trains, from labels alone or also from teachers."""

    teachers: Annotated[
        tuple[RecipeRef, ...], Field(description="models to learn from; none: labels only")
    ] = ()

    @model_validator(mode="after")
    def loss_needs_teachers(self) -> DistilledTraining:
        """Refuse what nothing would use."""
        unused = [name for name in Following.model_fields if name in self.model_fields_set]
        if unused and not self.teachers:
            raise ValueError(f"{unused[0]} says how teachers are followed, but there are no teachers")
        if self.teachers:
            require_one_weight_each(self, len(self.teachers))
        return self
