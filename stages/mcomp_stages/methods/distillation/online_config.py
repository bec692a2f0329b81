"""What a recipe may say about networks that learn together. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mcomp.config import Config, module_patterns

Temperature = Annotated[float, Field(gt=0, description="outputs are divided by it before the softmax")]
Weight = Annotated[float, Field(gt=0, description="weight of what peers say, beside 1 for the labels")]


class Mutual(Config):
    """Each peer follows the mean of the others (Zhang et al. 2018, arXiv:1706.00384)."""

    type: Literal["dml"] = "dml"
    temperature: Temperature = 1.0
    weight: Weight = 1.0


class Collaborative(Config):
    """All peers follow a teacher that is made of them (KDCL: Guo et al. 2020, CVPR)."""

    type: Literal["kdcl"] = "kdcl"
    temperature: Temperature = 2.0
    weight: Weight = 1.0
    teacher: Annotated[
        Literal["naive", "min_logit"],
        Field(description="naive: the best peer of each sample; min_logit: the lowest logit of each class"),
    ] = "min_logit"


class Branches(Config):
    """Branches on one trunk follow their gated sum (ONE: Lan et al. 2018, arXiv:1806.04606)."""

    type: Literal["one"] = "one"
    branch: Annotated[
        tuple[str, ...],
        module_patterns(min_length=1, description="patterns of the modules that each branch has for itself"),
    ]
    temperature: Temperature = 3.0
    weight: Weight = 1.0


OnlineMethod = Annotated[Mutual | Collaborative | Branches, Field(discriminator="type")]
