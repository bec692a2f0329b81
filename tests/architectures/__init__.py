"""Small networks, each with one thing that makes pruning hard, by name. The input is called `image`."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mcomp.model.spec import ModelConfig
from tests.architectures.attention import EagerNet, LinearAttention, SmallViT, TorchTransformer
from tests.architectures.convolutions import (
    VGG,
    ConcatNet,
    GroupedNet,
    MBConvNet,
    NormsNet,
    ShuffledGroups,
    ShuffleNet,
    SuperResolution,
    UNet,
)
from tests.architectures.particular import MLP, FixedSizeNet, HalvedNet, SortingNet, TiedNet, TwoTowers

NETS: dict[str, type[nn.Module]] = {
    "vgg": VGG,
    "concat": ConcatNet,
    "mbconv": MBConvNet,
    "unet": UNet,
    "grouped": GroupedNet,
    "shuffle": ShuffleNet,
    "tied": TiedNet,
    "mlp": MLP,
    "fixed_size": FixedSizeNet,
    "sorting": SortingNet,
    "vit": SmallViT,
    "eager": EagerNet,
    "torch_transformer": TorchTransformer,
    "linear_attention": LinearAttention,
    "norms": NormsNet,
    "shuffled_groups": ShuffledGroups,
    "super_resolution": SuperResolution,
    "halved": HalvedNet,
    "towers": TwoTowers,
}


class NetConfig(ModelConfig):
    """One of the networks as an architecture of a recipe."""

    type: Literal["net"] = "net"
    name: str

    def build(self) -> nn.Module:
        return NETS[self.name]()


def example(size: int = 16) -> dict[str, Tensor]:
    """Return two pictures."""
    return {"image": torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))}


def example_of(name: str) -> dict[str, Tensor]:
    """Return two samples of what a network takes."""
    inputs = example()
    if name == "towers":
        inputs |= {"other": inputs["image"].flip(-1), "tokens": torch.arange(14).view(2, 7)}
    return inputs
