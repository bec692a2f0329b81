"""Vision transformers.

    model: {type: vit, patch: 4, depth: 6, width: 96, heads: 3}

The image is cut into squares of `patch` pixels; its side must be a multiple of that. `patch: 16, depth: 12,
width: 192, heads: 3` at 224 pixels is DeiT-Ti, and takes timm's weights for it.

Source: Dosovitskiy et al. 2020, arXiv:2010.11929 (section 3.1); widths of DeiT from Touvron et al. 2020,
arXiv:2012.12877 (table 1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from mcomp.errors import RecipeError
from mcomp.model.spec import ModelConfig
from mcomp_stages.models.open_sizes import filled, known

if TYPE_CHECKING:
    from torch import nn

    from mcomp.data.contract import DataFacts


class ViTConfig(ModelConfig):
    """A vision transformer that classifies by its class token."""

    type: Literal["vit"] = "vit"
    patch: Annotated[int, Field(ge=1, description="pixels a side of what becomes a token")] = 4
    depth: Annotated[int, Field(ge=1, le=64, description="blocks")] = 6
    width: Annotated[int, Field(ge=1, description="numbers that a token has")] = 96
    heads: Annotated[int, Field(ge=1, description="heads that the width is divided among")] = 3
    mlp_ratio: Annotated[float, Field(gt=0, le=16, description="hidden width of the MLP over the width")] = (
        4.0
    )
    dropout: Annotated[float, Field(ge=0, lt=1, description="behind attention and MLP")] = 0.0
    image_size: Annotated[int | None, Field(ge=1, description="pixels a side; default: the data's")] = None
    in_channels: Annotated[int | None, Field(ge=1, description="default: the data's")] = None
    num_classes: Annotated[int | None, Field(ge=1, description="default: the data's")] = None

    @model_validator(mode="after")
    def divides_evenly(self) -> ViTConfig:
        """Refuse a width that the heads cannot share."""
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self

    def fitted_to(self, facts: DataFacts) -> ViTConfig:
        found = {"image_size": facts.image_size, "in_channels": facts.channels}
        return filled(self, **found, num_classes=facts.num_classes)

    def build(self) -> nn.Module:
        """Return the network with fresh weights. Raises RecipeError if a size is open or does not fit."""
        from mcomp_stages.models.vit_module import ViT

        image_size, *others = known(self, "image_size", "in_channels", "num_classes")
        if image_size % self.patch:
            raise RecipeError(f"vit: {image_size} pixels a side are no multiple of patch {self.patch}")
        hidden = round(self.width * self.mlp_ratio)
        sizes = (image_size, self.patch, self.depth, self.width, self.heads, hidden)
        return ViT(*sizes, self.dropout, *others)
