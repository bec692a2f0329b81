"""Small networks, each with one thing that makes pruning hard. The input is called `image`."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mcomp.model.spec import ModelConfig


class VGG(nn.Module):
    """Batch norm after each convolution, and a flatten that turns one channel into several inputs."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 24, 32)
        blocks: list[nn.Module] = []
        for before, after in pairwise(widths):
            blocks += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
            blocks += [nn.MaxPool2d(2)]
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Sequential(
            nn.Linear(32 * 4, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Dropout(0.5), nn.Linear(40, 10)
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(image), 1))


class ConcatNet(nn.Module):
    """Every layer reads the concatenation of all before it (DenseNet)."""

    def __init__(self, growth: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, growth, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(growth * (i + 1)) for i in range(3))
        self.convs = nn.ModuleList(
            nn.Conv2d(growth * (i + 1), growth, 3, padding=1, bias=False) for i in range(3)
        )
        self.head = nn.Linear(growth * 4, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(functional.relu(norm(x)))], dim=1)
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class SqueezeExcite(nn.Module):
    """A gate for each channel, computed from all of them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, 16, 1)
        self.expand = nn.Conv2d(16, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.expand(functional.silu(self.reduce(pooled))))


class MBConv(nn.Module):
    """Inverted bottleneck: expand, depthwise, squeeze-excite, project, add."""

    def __init__(self, channels: int, expanded: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, expanded, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(expanded)
        self.depthwise = nn.Conv2d(expanded, expanded, 3, padding=1, groups=expanded, bias=False)
        self.norm2 = nn.BatchNorm2d(expanded)
        self.gate = SqueezeExcite(expanded)
        self.project = nn.Conv2d(expanded, channels, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.hardswish(self.norm1(self.expand(x)))
        y = functional.relu6(self.norm2(self.depthwise(y)))
        return x + self.norm3(self.project(self.gate(y)))


class MBConvNet(nn.Module):
    """Two inverted bottlenecks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(MBConv(16, 48), MBConv(16, 48))
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(image)).mean((2, 3)))


class UNet(nn.Module):
    """Down, up by nearest, bilinear and transposed convolution, with a concatenated skip at each level."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(3, 16, 3, padding=1)
        self.down2 = nn.Conv2d(16, 24, 3, padding=1)
        self.bottom = nn.Conv2d(24, 32, 3, padding=1)
        self.up1 = nn.Conv2d(32 + 24, 24, 3, padding=1)
        self.rise = nn.ConvTranspose2d(24, 16, 2, stride=2)
        self.up2 = nn.Conv2d(16 + 16 + 16, 16, 3, padding=1)
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        first = functional.relu(self.down1(image))
        second = functional.relu(self.down2(functional.max_pool2d(first, 2)))
        bottom = functional.relu(self.bottom(functional.avg_pool2d(second, 2)))
        middle = torch.cat([functional.interpolate(bottom, scale_factor=2), second], 1)
        middle = functional.relu(self.up1(middle))
        down = functional.interpolate(first[:, :, ::2, ::2], scale_factor=2, mode="bilinear")
        return self.head(functional.relu(self.up2(torch.cat([self.rise(middle), first, down], 1))))


class GroupedNet(nn.Module):
    """Grouped convolution and group norm, which lose whole groups, and a parameter used as data."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.norm = nn.GroupNorm(8, 32)
        self.grouped = nn.Conv2d(32, 64, 3, padding=1, groups=8)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 64).view(64, 1, 1))
        self.act = nn.PReLU(64)
        self.head = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.grouped(functional.gelu(self.norm(self.stem(image))))
        return self.head(self.act(x * self.scale).mean((2, 3)))


class ShuffleNet(nn.Module):
    """Channels are halved, one half is convolved, and the halves are shuffled together."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.branch = nn.Sequential(
            nn.Conv2d(16, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU()
        )
        self.last = nn.Conv2d(32, 24, 1)
        self.head = nn.Linear(24, 10)

    def forward(self, image: Tensor) -> Tensor:
        left, right = self.stem(image).chunk(2, dim=1)
        x = torch.cat([left, self.branch(right)], dim=1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(functional.relu(self.last(x)).mean((2, 3)))


class TiedNet(nn.Module):
    """One weight under two names: the layer in the middle runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3 * 16 * 16, 32)
        self.first = nn.Linear(32, 32)
        self.second = nn.Linear(32, 32)
        self.second.weight = self.first.weight
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.stem(image.flatten(1)))
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))))


class StoredTransposed(nn.Module):
    """A linear that keeps its weight as (inputs, outputs), as GPT-2 does."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


class MLP(nn.Module):
    """A layer norm, which fixes the width it sees, transposed weights, and a stack that is summed."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * 16 * 16, 32)
        self.norm = nn.LayerNorm(32)
        self.up = StoredTransposed(32, 48)
        self.side = StoredTransposed(32, 48)
        self.act = nn.PReLU()
        self.down = StoredTransposed(48, 32)
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.norm(self.embed(image.to(torch.float32).flatten(1)))
        both = torch.stack([self.act(self.up(x)), self.side(x)], dim=1).sum(1)
        return self.head(torch.tanh(self.down(both)))


class FixedSizeNet(nn.Module):
    """A number of channels is written in forward, where a cut cannot change it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.last = nn.Conv2d(32, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        halves = self.stem(image).view(-1, 2, 16, 16, 16)
        shuffled = halves.transpose(1, 2).reshape(-1, 32, 16, 16)
        return self.head(self.last(shuffled).mean((2, 3)))


class SortingNet(nn.Module):
    """`cumsum` over channels: an operator that no rule knows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.mixed = nn.Conv2d(16, 32, 1)
        self.last = nn.Conv2d(32, 32, 1)
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.mixed(torch.cumsum(self.stem(image), 1))
        return self.head(self.last(torch.relu(x)).mean((2, 3)))


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
