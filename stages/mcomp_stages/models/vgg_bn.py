"""VGG with batch norm: a chain of 3x3 convolutions.

    model: {type: vgg_bn, depth: 11, width: 32, head: small}

The names of the parameters are those of torchvision, so that its weights fit (`head: imagenet`, width 64).

Source: Simonyan and Zisserman 2014, arXiv:1409.1556 (table 1, columns A, B, D and E); batch norm behind each
convolution: Ioffe and Szegedy 2015, arXiv:1502.03167. Differs: `head: small` is one linear on each channel's
mean, in place of three that are wider than all convolutions together, and takes images of any size: odd sides
are halved and rounded up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.model.spec import ModelConfig
from mcomp_stages.models.open_sizes import filled, known

if TYPE_CHECKING:
    from torch import nn

    from mcomp.data.contract import DataFacts


class VGGConfig(ModelConfig):
    """A chain of convolutions without shortcuts."""

    type: Literal["vgg_bn"] = "vgg_bn"
    depth: Annotated[Literal[11, 13, 16, 19], Field(description="layers, with three in the head")] = 16
    width: Annotated[
        int, Field(ge=1, description="channels of the first stage; the last has 8 times as many")
    ] = 64
    head: Annotated[
        Literal["imagenet", "small"],
        Field(description="three linears of 4096, or one on the channels' means"),
    ] = "imagenet"
    dropout: Annotated[float, Field(ge=0, lt=1, description="in the head of three linears")] = 0.5
    in_channels: Annotated[int | None, Field(ge=1, description="default: the data's")] = None
    num_classes: Annotated[int | None, Field(ge=1, description="default: the data's")] = None

    def fitted_to(self, facts: DataFacts) -> VGGConfig:
        return filled(self, in_channels=facts.channels, num_classes=facts.num_classes)

    def build(self) -> nn.Module:
        """Return the network with fresh weights. Raises RecipeError if a size is still open."""
        from mcomp_stages.models.vgg_bn_module import VGG

        in_channels, num_classes = known(self, "in_channels", "num_classes")
        dropout = self.dropout if self.head == "imagenet" else None
        return VGG(self.depth, self.width, dropout, in_channels, num_classes)
