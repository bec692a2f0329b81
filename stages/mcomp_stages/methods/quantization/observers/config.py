"""What a recipe may say about observers. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mcomp.config import Config


class MinMax(Config):
    """The smallest and the largest value of all: nothing is clipped."""

    type: Literal["minmax"] = "minmax"


class MovingAverage(Config):
    """The moving average of the batches' extremes (Jacob et al. 2018, arXiv:1712.05877, 3.1)."""

    type: Literal["moving_average"] = "moving_average"
    newest: Annotated[float, Field(gt=0, le=1, description="weight of the newest batch")] = 0.05


class Percentile(Config):
    """All values but a few of the largest and a few of the smallest."""

    type: Literal["percentile"] = "percentile"
    percent: Annotated[
        float, Field(ge=50, le=100, description="at most the rest of the values is above, and below")
    ] = 99.99


class MSE(Config):
    """The range whose grid is nearest to the values, by the squared error."""

    type: Literal["mse"] = "mse"


class KL(Config):
    """The range whose grid keeps most of the values' distribution (Migacz 2017)."""

    type: Literal["kl"] = "kl"


ObserverChoice = Annotated[MinMax | MovingAverage | Percentile | MSE | KL, Field(discriminator="type")]
