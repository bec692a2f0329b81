"""What is recorded of each quantized weight. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mcomp_stages.methods.quantization.config import Activations, Weights

SiteBits = Literal[1, 2, 3, 4, 5, 6, 7, 8]


class WeightSite(Weights):
    """The grid of one weight, and what it takes to run it in integers.

    With `scale: follows` the scale is computed from the weight whenever it is used; with `stored` it is in
    the model's state as `quantizers.<weight>.scale` and `.zero_point` (shapes: `grid`).
    """

    bits: Annotated[SiteBits, Field(description="1: minus or plus one")] = 8  # type: ignore[assignment]
    axis: Annotated[int, Field(description="the axis of its output channels")] = 0
    scale: Literal["follows", "stored"] = "follows"
    packed: Annotated[
        tuple[int, ...] | None,
        Field(description="shape of a weight that is kept on disk as codes of this width, in `.codes`"),
    ] = None
    inputs: Annotated[
        tuple[str, ...],
        Field(description="sites of what is multiplied with it; none: it stays a float product"),
    ] = ()

    @property
    def scale_axis(self) -> int:
        """The axis along which scales differ: that of the channels, or across it in groups."""
        return 1 - self.axis if self.per == "group" else self.axis


def multiplies_in_integers(weight: WeightSite, input_grid: Activations) -> bool:
    """Whether runtimes can multiply in integers: grids of up to 8 bits, and no groups inside a sum."""
    return input_grid.bits <= 8 and weight.per != "group"
