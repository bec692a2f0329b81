"""Networks of convolutions, each with one thing that makes pruning hard."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


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


class NormsNet(nn.Module):
    """Layer norm over channels of a map, group norm with one group, instance norm, a channel statistic."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 2, stride=2)
        self.layer = nn.LayerNorm(24)
        self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.group = nn.GroupNorm(1, 24)
        self.wide = nn.Conv2d(24, 32, 1)
        self.instance = nn.InstanceNorm2d(32, affine=True)
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.layer(self.stem(image).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = functional.gelu(self.wide(self.group(self.depthwise(x))))
        x = functional.normalize(self.instance(x), dim=1) - x.amax(1, keepdim=True)
        return self.head(x.mean((2, 3)))


class ShuffledGroups(nn.Module):
    """Two grouped convolutions with a shuffle between: the same positions of every group go together."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.squeeze = nn.Conv2d(32, 24, 1, groups=2)
        self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.expand = nn.Conv2d(24, 32, 1, groups=2)
        self.rise = nn.ConvTranspose2d(32, 16, 2, stride=2, groups=2)
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        y = nn.functional.relu(self.squeeze(x))
        y = y.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        return self.head(self.rise(x + self.expand(self.depthwise(y))).mean((2, 3)))


class SuperResolution(nn.Module):
    """Channels that become pixels, and pixels that become channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.down = nn.Conv2d(64, 32, 1)
        self.last = nn.Conv2d(8, 12, 3, padding=1)
        self.head = nn.Conv2d(12, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.pixel_unshuffle(self.stem(image), 2)
        x = functional.pixel_shuffle(torch.relu(self.down(x)), 2)
        return self.head(torch.relu(self.last(x)))
