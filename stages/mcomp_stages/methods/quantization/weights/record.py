"""What is recorded of each weight that is kept in few bits. Free of torch."""

from __future__ import annotations

from math import prod
from typing import Annotated, Literal

from pydantic import Field

from mcomp.config import Config

STEPS_BITS = 16  # kept as whole steps from zero, int16; fewer bits are codes, packed

Unpack = Literal["load", "product", "integers"]


class StoredWeight(Config):
    """How one weight is kept and served.

    `unpack`: the runtime makes floats of it when it loads the file (`load`), or inside the product
    (`product`), or never: the inputs are rounded to 8 bits as they come and the product is one of integers.
    `shape` is that of the parameter, whose rows are one output each, or its columns if it is `transposed`.
    """

    shape: tuple[int, ...]
    bits: Literal[2, 3, 4, 5, 6, 7, 8, 16]
    group_size: Annotated[int, Field(ge=1, lt=2**31, description="neighbours in a row that share a scale")]
    symmetric: Annotated[bool, Field(description="zero in the middle, not one for each group")] = True
    unpack: Unpack = "load"
    scaled_inputs: Annotated[
        bool, Field(description="the inputs of its layer are multiplied by a vector first")
    ] = False
    transposed: Annotated[bool, Field(description="a matrix that stands behind its inputs: x @ weight")] = (
        False
    )

    @property
    def rows(self) -> int:
        """How many outputs the weight has."""
        return self.shape[1] if self.transposed else self.shape[0]

    @property
    def columns(self) -> int:
        """How many numbers each of them has."""
        return self.shape[0] if self.transposed else prod(self.shape[1:])
