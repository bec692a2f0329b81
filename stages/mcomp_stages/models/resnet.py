"""Residual networks: the CIFAR family (20, 32, 44, 56, 110 layers) and the ImageNet family (18, 34, 50).

    model: {type: resnet, depth: 20, width: 32}

Source: He et al. 2016, arXiv:1512.03385 (sections 4.1 and 4.2).
Differs: CIFAR-family shortcuts that change shape are 1x1 convolutions unless `shortcut: pad` asks for the
paper's option A; every width can be chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from mcomp.model.spec import ModelConfig
from mcomp_stages.models.open_sizes import filled, known

if TYPE_CHECKING:
    from torch import nn

    from mcomp.data.contract import DataFacts

CIFAR_DEPTHS = (20, 32, 44, 56, 110)


class ResNetConfig(ModelConfig):
    """A residual network; depths 18, 34 and 50 have the ImageNet stem, the others the CIFAR stem."""

    type: Literal["resnet"] = "resnet"
    depth: Annotated[Literal[18, 20, 32, 34, 44, 50, 56, 110], Field(description="layers")] = 20
    width: Annotated[
        int | None,
        Field(
            ge=1, description="channels of the first stage; default: 16 (CIFAR family), 64 (ImageNet family)"
        ),
    ] = None
    shortcut: Annotated[
        Literal["conv", "pad"], Field(description="1x1 convolution, or subsample and pad (CIFAR family only)")
    ] = "conv"
    in_channels: Annotated[int | None, Field(ge=1, description="default: the data's")] = None
    num_classes: Annotated[int | None, Field(ge=1, description="default: the data's")] = None

    @model_validator(mode="after")
    def pads_only_cifar(self) -> ResNetConfig:
        """Refuse padded shortcuts in the ImageNet family, whose bottlenecks have no option A."""
        if self.shortcut == "pad" and self.depth not in CIFAR_DEPTHS:
            depths = ", ".join(str(depth) for depth in CIFAR_DEPTHS)
            raise ValueError(f"shortcut 'pad' needs a depth of the CIFAR family ({depths}), not {self.depth}")
        return self

    def fitted_to(self, facts: DataFacts) -> ResNetConfig:
        return filled(self, in_channels=facts.channels, num_classes=facts.num_classes)

    def build(self) -> nn.Module:
        """Return the network with He-initialised weights. Raises RecipeError if a size is still open."""
        from mcomp_stages.models import resnet_module

        in_channels, num_classes = known(self, "in_channels", "num_classes")
        if self.depth in CIFAR_DEPTHS:
            return resnet_module.cifar_resnet(
                self.depth, self.width or 16, self.shortcut, in_channels, num_classes
            )
        return resnet_module.imagenet_resnet(self.depth, self.width or 64, in_channels, num_classes)
