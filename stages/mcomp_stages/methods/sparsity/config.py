"""The fields of the stages that set weights to zero. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mcomp.config import Config, module_patterns
from mcomp.recipe.schema import RecipeRef

Unit = Literal["weight", "vector", "kernel", "block"]
Importance = Literal["l1", "l2", "movement", "random"]
Scope = Literal["layer", "global"]
Axis = Literal["input", "output"]
Share = Annotated[float, Field(gt=0, lt=1, description="share of the chosen weights that is zero at the end")]


class Pattern(Config):
    """At most `keep` weights that are not zero in every `of` neighbours: N:M."""

    keep: Annotated[int, Field(ge=1, description="weights that stay")]
    of: Annotated[int, Field(ge=2, description="neighbours")]

    @model_validator(mode="after")
    def leaves_out(self) -> Pattern:
        """Refuse a pattern that every weight fits."""
        if self.keep >= self.of:
            raise ValueError(f"keep: {self.keep} of: {self.of} leaves nothing out: keep must be below of")
        return self


class ChosenLayers(Config):
    """Which linears and convolutions are meant: those that match `layers` and nothing of `skip`."""

    layers: Annotated[
        tuple[str, ...] | None,
        module_patterns(min_length=1, description="patterns of linears and convolutions; default: all"),
    ] = None
    skip: Annotated[
        tuple[str, ...], module_patterns(description="patterns of layers that keep all their weights")
    ] = ()


class OneShot(Config):
    """All at once; `recover` trains afterwards."""

    type: Literal["one_shot"] = "one_shot"


class Iterative(Config):
    """In rounds, each followed by the whole of `recover`; every round takes the same share of what is left.

    With `rewind` each round starts from the weights of that model, and only the mask is new (Frankle & Carbin
    2019, arXiv:1803.03635; from an early epoch: Frankle et al. 2019, arXiv:1903.01611).
    """

    type: Literal["iterative"] = "iterative"
    rounds: Annotated[int, Field(ge=2, description="how often weights are chosen and the rest trained")] = 3
    rewind: Annotated[
        RecipeRef | None, Field(description="the model, of the same structure, to go back to in every round")
    ] = None


class Gradual(Config):
    """Inside of `recover`, along a cubic: s(t) = s_f + (s_0 - s_f) (1 - t)^3, fast first.

    Zhu & Gupta 2017, arXiv:1710.01878 (equation 1). Only epochs after `end` are kept.
    """

    type: Literal["gradual"] = "gradual"
    start: Annotated[float, Field(ge=0, lt=1, description="share of the updates before the first mask")] = 0.0
    end: Annotated[float, Field(gt=0, le=1, description="share of the updates until the last mask")] = 0.7
    every: Annotated[int, Field(ge=1, description="updates from mask to mask")] = 10
    initial: Annotated[float, Field(ge=0, lt=1, description="sparsity of the first mask")] = 0.0

    @model_validator(mode="after")
    def ends_after_its_start(self) -> Gradual:
        """Refuse a schedule without room."""
        if self.end <= self.start:
            raise ValueError(f"end: {self.end:g} must be above start: {self.start:g}")
        return self


Schedule = Annotated[OneShot | Iterative | Gradual, Field(discriminator="type")]
