"""What a recipe may say about penalties in training. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mcomp.config import Config


class Penalty(Config):
    """Base of the penalties: weights shrink by learning rate times strength after every update."""

    strength: Annotated[float, Field(gt=0, description="what the penalty is multiplied by")]
    ramp: Annotated[
        float, Field(ge=0, le=1, description="share of the updates in which the strength rises from 0")
    ] = 0.3


class L1(Penalty):
    """The sum of the absolute weights: many become zero."""

    type: Literal["l1"] = "l1"


class L2(Penalty):
    """Half the sum of the squared weights: all become smaller."""

    type: Literal["l2"] = "l2"


class GroupLasso(Penalty):
    """The norms of whole groups: groups become zero (Wen et al. 2016, arXiv:1608.03665).

    `coupled` groups are those that are cut together; `filters`, `channels` and `layers` those of single
    layers.
    """

    type: Literal["group_lasso"] = "group_lasso"
    groups: Annotated[
        Literal["coupled", "filters", "channels", "layers"], Field(description="what becomes zero as a whole")
    ] = "coupled"


class Slimming(Penalty):
    """The sum of the absolute scales of norms (Liu et al. 2017, arXiv:1708.06519)."""

    type: Literal["slimming"] = "slimming"


class Growing(Penalty):
    """L2 on what will be cut, chosen before training, growing all the time.

    Wang et al. 2021, arXiv:2012.09243.
    """

    type: Literal["growing"] = "growing"
    ramp: Annotated[
        float, Field(ge=0, le=1, description="share of the updates in which the strength rises from 0")
    ] = 1.0


PenaltyChoice = Annotated[L1 | L2 | GroupLasso | Slimming | Growing, Field(discriminator="type")]
