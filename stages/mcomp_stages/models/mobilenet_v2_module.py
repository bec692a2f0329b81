"""The modules of MobileNetV2. Parameter names are those of torchvision, so that its weights fit."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

# Table 2 of the paper: expansion, channels, blocks, stride of the first block.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM, LAST = 32, 1280
MULTIPLE = 8


class ConvNormReLU6(nn.Sequential):
    """A convolution that keeps the image's size but for its stride, a batch norm and a ReLU6."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project; add the input where the shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        expanded = in_channels * expansion
        parts: list[nn.Module] = [ConvNormReLU6(in_channels, expanded, kernel=1)] if expansion > 1 else []
        parts += [
            ConvNormReLU6(expanded, expanded, stride=stride, groups=expanded),
            nn.Conv2d(expanded, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        ]
        self.conv = nn.Sequential(*parts)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.adds else y


class MobileNetV2(nn.Module):
    """Takes `image` (N, in_channels, H, W), returns logits (N, num_classes).

    `width` multiplies all channels but those of the last layer, which only grow. With `small_images` the stem
    and the first stage that would halve the image leave its size as it is: it is divided by 8, not by 32.
    """

    def __init__(
        self, width: float, small_images: bool, dropout: float, in_channels: int, num_classes: int
    ) -> None:
        super().__init__()
        channels = rounded(STEM * width)
        features: list[nn.Module] = [ConvNormReLU6(in_channels, channels, stride=1 if small_images else 2)]
        for stage, (expansion, wide, num_blocks, first_stride) in enumerate(STAGES):
            out_channels = rounded(wide * width)
            for block in range(num_blocks):
                stride = first_stride if block == 0 and not (small_images and stage == 1) else 1
                features.append(InvertedResidual(channels, out_channels, stride, expansion))
                channels = out_channels
        last = rounded(LAST * max(width, 1.0))
        self.features = nn.Sequential(*features, ConvNormReLU6(channels, last, kernel=1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.adaptive_avg_pool2d(self.features(image), 1).flatten(1)
        logits: Tensor = self.classifier(x)
        return logits


def rounded(channels: float) -> int:
    """Return the nearest multiple of 8, at least 8, but never less than nine tenths of `channels`."""
    nearest = max(MULTIPLE, int(channels + MULTIPLE / 2) // MULTIPLE * MULTIPLE)
    return nearest if nearest >= 0.9 * channels else nearest + MULTIPLE


def initialise(module: nn.Module) -> None:
    """Draw weights as in He et al. 2015, arXiv:1502.01852 (fan-out), and a classifier near zero, in place."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out")
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0, 0.01)
            nn.init.zeros_(part.bias)
