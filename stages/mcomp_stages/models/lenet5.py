"""LeNet-5: two convolutions and three linears.

    model: {type: lenet5}

Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition", figure 2.
Differs: ReLU and max-pooling, full connections between the two convolutions, a linear output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.errors import RecipeError
from mcomp.model.spec import ModelConfig
from mcomp_stages.models.open_sizes import filled, known

if TYPE_CHECKING:
    from torch import nn

    from mcomp.data.contract import DataFacts


class LeNet5Config(ModelConfig):
    """LeNet-5 for square images of at least 12 pixels; below 32 they are padded by 2, as in the paper."""

    # Of its 6 and 16 channels no multiple of 8 can go.
    starter = {"prune.channels": {"round_to": 1, "min_channels": 2}}

    type: Literal["lenet5"] = "lenet5"
    image_size: Annotated[int | None, Field(ge=12, description="pixels a side; default: the data's")] = None
    in_channels: Annotated[int | None, Field(ge=1, description="default: the data's")] = None
    num_classes: Annotated[int | None, Field(ge=1, description="default: the data's")] = None

    def fitted_to(self, facts: DataFacts) -> LeNet5Config:
        found = {"image_size": facts.image_size, "in_channels": facts.channels}
        return filled(self, **found, num_classes=facts.num_classes)

    def build(self) -> nn.Module:
        """Return the network, torch's default weights. Raises RecipeError if a size is open or too small."""
        from mcomp_stages.models.lenet5_module import LeNet5

        image_size, *others = known(self, "image_size", "in_channels", "num_classes")
        if image_size < 12:
            raise RecipeError(f"lenet5: images of {image_size} pixels vanish in its pooling; it needs 12")
        return LeNet5(image_size, *others)
