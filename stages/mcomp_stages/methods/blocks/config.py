"""The fields of removing blocks that belong to the method. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mcomp_stages.methods.pruning.config import Goal

BlockImportance = Literal["influence", "magnitude", "trial", "random"]


class BlocksTarget(Goal):
    """How many blocks go: exactly one of the four. `macs` and `params` are shares of the model to keep."""

    blocks: Annotated[int | None, Field(ge=1, description="blocks to remove")] = None
    macs: Annotated[float | None, Field(gt=0, lt=1, description="share of multiply-adds to keep")] = None
    params: Annotated[float | None, Field(gt=0, lt=1, description="share of parameters to keep")] = None
