"""The modules of EfficientNet-Lite. Parameter names are those of its published weights in PyTorch."""

# N = samples, H, W = height, width
from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from mcomp_stages.models.mobilenet_v2_module import initialise, rounded

# Table 1 of the paper: expansion, kernel, channels, blocks, stride of the first block.
STAGES = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
# By variant: what multiplies channels and blocks. Stem, head, and the depth of the first and last stage stay.
GROWTH = {
    "lite0": (1.0, 1.0),
    "lite1": (1.0, 1.1),
    "lite2": (1.1, 1.2),
    "lite3": (1.2, 1.4),
    "lite4": (1.4, 1.8),
}
STEM, HEAD = 32, 1280


def norm(channels: int) -> nn.BatchNorm2d:
    """Return a batch norm with the constants of TensorFlow's."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class SameConv2d(nn.Conv2d):
    """A convolution whose output has the input's size, divided by the stride and rounded up.

    As TensorFlow pads: where the padding is odd, the last row and column get one more.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = (self.missing(size) for size in x.shape[-2:])
        if height % 2 == width % 2 == 0:
            return functional.conv2d(
                x, self.weight, None, self.stride, (height // 2, width // 2), 1, self.groups
            )
        around = (width // 2, width - width // 2, height // 2, height - height // 2)
        return functional.conv2d(functional.pad(x, around), self.weight, None, self.stride, 0, 1, self.groups)

    def missing(self, size: int) -> int:
        """Return how many rows, or columns, have to be added to `size`."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        return max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)


class MBConv(nn.Module):
    """Expand, filter each channel by itself, project; add the input where the shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        expanded = in_channels * expansion
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv = SameConv2d(in_channels, expanded, 1)
            self._bn0 = norm(expanded)
        self._depthwise_conv = SameConv2d(expanded, expanded, kernel, stride, groups=expanded)
        self._bn1 = norm(expanded)
        self._project_conv = SameConv2d(expanded, out_channels, 1)
        self._bn2 = norm(out_channels)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        wide = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        filtered = functional.relu6(self._bn1(self._depthwise_conv(wide)))
        y: Tensor = self._bn2(self._project_conv(filtered))
        return x + y if self.adds else y


class EfficientNetLite(nn.Module):
    """Takes `image` (N, in_channels, H, W), returns logits (N, num_classes)."""

    def __init__(
        self, width: float, depth: float, dropout: float, in_channels: int, num_classes: int
    ) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(in_channels, STEM, 3, 2)
        self._bn0 = norm(STEM)
        channels = STEM
        blocks = []
        for stage, (expansion, kernel, narrow, num_blocks, first_stride) in enumerate(STAGES):
            out_channels = rounded(narrow * width)
            grows = 0 < stage < len(STAGES) - 1
            for block in range(math.ceil(depth * num_blocks) if grows else num_blocks):
                stride = first_stride if block == 0 else 1
                blocks.append(MBConv(channels, out_channels, kernel, stride, expansion))
                channels = out_channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv2d(channels, HEAD, 1)
        self._bn1 = norm(HEAD)
        self._dropout = nn.Dropout(dropout)
        self._fc = nn.Linear(HEAD, num_classes)
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.relu6(self._bn0(self._conv_stem(image)))
        for block in self._blocks:
            x = block(x)
        x = functional.relu6(self._bn1(self._conv_head(x)))
        logits: Tensor = self._fc(self._dropout(functional.adaptive_avg_pool2d(x, 1).flatten(1)))
        return logits
