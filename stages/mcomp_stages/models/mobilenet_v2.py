"""MobileNetV2: inverted residuals of depthwise convolutions.

    model: {type: mobilenet_v2, width: 0.5, stem: small}

Source: Sandler et al. 2018, arXiv:1801.04381 (table 2). The names of the parameters are those of torchvision.
Differs: `stem: small` keeps small images whole through the stem and the first stage, so that something is
left of them behind the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.model.spec import ModelConfig
from mcomp_stages.models.open_sizes import filled, known

if TYPE_CHECKING:
    from torch import nn

    from mcomp.data.contract import DataFacts


class MobileNetV2Config(ModelConfig):
    """A network of depthwise convolutions with a width multiplier."""

    type: Literal["mobilenet_v2"] = "mobilenet_v2"
    width: Annotated[float, Field(ge=0.1, le=4, description="multiplies the channels of every layer")] = 1.0
    stem: Annotated[
        Literal["imagenet", "small"], Field(description="divide the image by 32, or a small one by 8")
    ] = "imagenet"
    dropout: Annotated[float, Field(ge=0, lt=1, description="before the classifier")] = 0.2
    in_channels: Annotated[int | None, Field(ge=1, description="default: the data's")] = None
    num_classes: Annotated[int | None, Field(ge=1, description="default: the data's")] = None

    def fitted_to(self, facts: DataFacts) -> MobileNetV2Config:
        return filled(self, in_channels=facts.channels, num_classes=facts.num_classes)

    def build(self) -> nn.Module:
        """Return the network with fresh weights. Raises RecipeError if a size is still open."""
        from mcomp_stages.models.mobilenet_v2_module import MobileNetV2

        in_channels, num_classes = known(self, "in_channels", "num_classes")
        small = self.stem == "small"
        return MobileNetV2(self.width, small, self.dropout, in_channels, num_classes)
