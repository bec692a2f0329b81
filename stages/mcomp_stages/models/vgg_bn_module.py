"""The modules of VGG with batch norm. Parameter names are those of torchvision, so that its weights fit."""

from __future__ import annotations

from torch import Tensor, nn

from mcomp_stages.models.mobilenet_v2_module import initialise

# By depth: how many convolutions each of the five stages has (table 1 of the paper).
STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDEST = 8  # times the first stage's channels
HEAD, HEAD_SIDE = 4096, 7


class VGG(nn.Module):
    """Takes `image` (N, in_channels, H, W), returns logits (N, num_classes).

    Without `dropout` the head is one linear on each channel's mean.
    """

    def __init__(
        self, depth: int, width: int, dropout: float | None, in_channels: int, num_classes: int
    ) -> None:
        super().__init__()
        features: list[nn.Module] = []
        channels = in_channels
        for stage, count in enumerate(STAGES[depth]):
            for _ in range(count):
                out_channels = width * min(2**stage, WIDEST)
                features += [nn.Conv2d(channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels)]
                features.append(nn.ReLU(inplace=True))
                channels = out_channels
            # Rounded up, a side of one pixel stays one: five halvings need no image of 32 pixels.
            features.append(nn.MaxPool2d(2, 2, ceil_mode=dropout is None))
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(1 if dropout is None else HEAD_SIDE)
        if dropout is None:
            self.classifier: nn.Module = nn.Linear(channels, num_classes)
        else:
            self.classifier = wide_head(channels, dropout, num_classes)
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.avgpool(self.features(image)).flatten(1))
        return logits


def wide_head(channels: int, dropout: float, num_classes: int) -> nn.Sequential:
    """Return the paper's three linears; what is dropped stands behind the first two."""
    return nn.Sequential(
        nn.Linear(channels * HEAD_SIDE**2, HEAD),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(HEAD, HEAD),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(HEAD, num_classes),
    )
