"""MobileNetV2: inverted residuals of depthwise convolutions.

    model: {type: mobilenet_v2, width: 0.5, stem: small}

Source: Sandler et al. 2018, arXiv:1801.04381 (table 2). The names of the parameters are those of torchvision.
Differs: `stem: small` keeps small images whole through the stem and the first stage, so that something is
left of them behind the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.errors import RecipeError
from mcomp.model.spec import ModelConfig

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
        return self.model_copy(
            update={
                "in_channels": self.in_channels or facts.channels,
                "num_classes": self.num_classes or facts.num_classes,
            }
        )

    def build(self) -> nn.Module:
        """Return the network with fresh weights. Raises RecipeError if a size is still open."""
        from mcomp_stages.models.mobilenet_v2_module import MobileNetV2

        if self.in_channels is None or self.num_classes is None:
            raise RecipeError("mobilenet_v2: the data does not say in_channels and num_classes; set them")
        small = self.stem == "small"
        return MobileNetV2(self.width, small, self.dropout, self.in_channels, self.num_classes)
