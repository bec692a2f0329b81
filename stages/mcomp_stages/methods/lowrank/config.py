"""The fields of low rank that belong to the method. Free of torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mcomp.config import Config, module_patterns
from mcomp_stages.methods.pruning.config import Goal

Rank = Annotated[int, Field(ge=1)]


class LowRankTarget(Goal):
    """How far ranks fall: exactly one of the four.

    `energy` is the share that each layer's weights keep of their sum of squares; `macs` and `params` are
    shares of the whole model to keep.
    """

    energy: Annotated[float | None, Field(gt=0, lt=1, description="share of each layer's energy to keep")] = (
        None
    )
    macs: Annotated[float | None, Field(gt=0, lt=1, description="share of multiply-adds to keep")] = None
    params: Annotated[float | None, Field(gt=0, lt=1, description="share of parameters to keep")] = None


class GivenRanks(Config):
    """Ranks that are not chosen but given."""

    match: Annotated[str, module_patterns(description="pattern of the paths of these layers")]
    ranks: Annotated[
        tuple[Rank, ...],
        Field(
            min_length=1,
            max_length=2,
            description="one for a linear or 1x1 convolution; of inputs and of outputs for a larger one",
        ),
    ]
