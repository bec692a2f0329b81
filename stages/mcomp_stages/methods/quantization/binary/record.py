"""What is recorded of the surroundings of a binary layer. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mcomp.config import Config

Shortcut = Literal["none", "same", "pooled"]


class BinaryLayer(Config):
    """What stands around one layer; its weight is a `WeightSite` of its own."""

    signs: Annotated[
        int | None, Field(ge=1, description="channels of its input, which becomes signs; none: it stays")
    ] = None
    shortcut: Annotated[
        Shortcut, Field(description="how its input is added to its result, halved by pooling if need be")
    ] = "none"
    rprelu: Annotated[
        int | None, Field(ge=1, description="channels of the RPReLU in place of its activation")
    ] = None
