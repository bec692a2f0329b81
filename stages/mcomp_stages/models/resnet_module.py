"""The modules of a residual network. Parameter names are those of torchvision, so that its weights fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional

Shortcut = Callable[[int, int, int], nn.Module]


class ConvShortcut(nn.Sequential):
    """A 1x1 convolution and a batch norm (option B)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        convolution = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(out_channels))


class PadShortcut(nn.Module):
    """Subsample, and pad the new channels with zeros on both sides (option A); it has no parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        changes_shape = stride != 1 or in_channels != channels
        self.downsample = shortcut(in_channels, channels, stride) if changes_shape else None

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; the stride is in the 3x3 one, as in torchvision."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        changes_shape = stride != 1 or in_channels != out_channels
        self.downsample = shortcut(in_channels, out_channels, stride) if changes_shape else None

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


# By depth: the kind of block, and how many there are in each stage.
IMAGENET_BLOCKS: dict[int, tuple[type[BasicBlock | Bottleneck], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}
SHORTCUTS: dict[str, Shortcut] = {"conv": ConvShortcut, "pad": PadShortcut}


class ResNet(nn.Module):
    """A stem, stages `layer1`, `layer2`, ... that double the channels and halve the image, and a classifier.

    Takes `image` (N, in_channels, H, W), returns logits (N, num_classes).
    """

    def __init__(
        self,
        stem: nn.Conv2d,
        pool: nn.Module,
        block: type[BasicBlock | Bottleneck],
        num_blocks: Sequence[int],
        shortcut: Shortcut,
        num_classes: int,
    ) -> None:
        super().__init__()
        width = stem.out_channels
        self.conv1 = stem
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = pool
        self.stages = [f"layer{number}" for number in range(1, len(num_blocks) + 1)]
        in_channels = width
        for index, (name, count) in enumerate(zip(self.stages, num_blocks, strict=True)):
            channels = width * 2**index
            blocks = []
            for position in range(count):
                stride = 2 if index > 0 and position == 0 else 1
                blocks.append(block(in_channels, channels, stride, shortcut))
                in_channels = channels * block.expansion
            self.add_module(name, nn.Sequential(*blocks))
        self.fc = nn.Linear(in_channels, num_classes)
        he_initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        x = self.pool(functional.relu(self.bn1(self.conv1(image))))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        logits: Tensor = self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def he_initialise(module: nn.Module) -> None:
    """Draw convolution weights as in He et al. 2015, arXiv:1502.01852 (fan-out), in place."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")


def cifar_resnet(depth: int, width: int, shortcut: str, in_channels: int, num_classes: int) -> ResNet:
    """Return a network of three stages of (depth - 2) / 6 basic blocks; the stem keeps the image's size."""
    stem = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
    num_blocks = [(depth - 2) // 6] * 3
    return ResNet(stem, nn.Identity(), BasicBlock, num_blocks, SHORTCUTS[shortcut], num_classes)


def imagenet_resnet(depth: int, width: int, in_channels: int, num_classes: int) -> ResNet:
    """Return a network of four stages behind a stem that divides the image's size by four."""
    block, num_blocks = IMAGENET_BLOCKS[depth]
    stem = nn.Conv2d(in_channels, width, 7, 2, 3, bias=False)
    pool = nn.MaxPool2d(3, 2, 1)
    return ResNet(stem, pool, block, num_blocks, ConvShortcut, num_classes)
