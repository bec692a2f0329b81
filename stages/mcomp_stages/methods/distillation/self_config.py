"""What a recipe may say about networks that learn from themselves. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mcomp.config import Config, module_patterns, shortens_to
from mcomp_stages.methods.distillation.config import Following
from mcomp_stages.methods.distillation.terms import DistillationLoss


class OwnTeacher(Config):
    """Heads inside the network follow its own last layer (Zhang et al. 2019, arXiv:1905.08094)."""

    type: Literal["byot"] = "byot"
    heads: Annotated[
        tuple[str, ...] | None,
        module_patterns(min_length=1, description="behind which modules; default: where the size changes"),
    ] = None
    keep: Annotated[
        str | None,
        module_patterns(
            description="the module behind whose head the result ends; default: it ends as it did"
        ),
    ] = None
    temperature: Annotated[float, Field(gt=0, description="outputs are divided by it")] = 3.0
    weight: Annotated[
        float, Field(ge=0, le=1, description="of a head: share of its teacher, the rest is the labels")
    ] = 0.3
    hint: Annotated[float, Field(ge=0, description="weight of the difference from the last features")] = 0.03


class PastSelf(Config):
    """Targets are softened by what the network said an epoch ago (Kim et al. 2021, arXiv:2006.12000)."""

    type: Literal["ps_kd"] = "ps_kd"
    weight: Annotated[
        float, Field(gt=0, lt=1, description="share of the past in the last epoch; it grows in a line")
    ] = 0.8


class BornAgain(Config):
    """Each generation starts anew and follows the one before (Furlanello et al. 2018, arXiv:1805.04770)."""

    type: Literal["born_again"] = "born_again"
    generations: Annotated[
        int, shortens_to(2, ge=2, le=16, description="trainings; the first has labels alone")
    ] = 2
    loss: Annotated[
        DistillationLoss, Field(description="how the generation before is followed: a term, or several")
    ] = Following().loss


SelfMethod = Annotated[OwnTeacher | PastSelf | BornAgain, Field(discriminator="type")]
