"""Networks with random batch norm statistics, as models with calibrated quantizers."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mcomp.model.model import Model
from mcomp.model.spec import ModelConfig
from mcomp_stages.methods.quantization.calibrate import calibrated
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.observers.config import MinMax
from mcomp_stages.methods.quantization.scheme import quantizers_for


class ResidualNet(nn.Module):
    """A stem, a block with an addition, a shortcut that changes shape, pooling and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.norm2 = nn.BatchNorm2d(16)
        self.shortcut = nn.Conv2d(8, 16, 1, stride=2, bias=False)
        self.norm3 = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.relu6(self.norm(self.stem(image)))
        x = functional.relu(self.norm2(self.conv(x)) + self.norm3(self.shortcut(x)))
        logits: Tensor = self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


class ChainNet(nn.Module):
    """Padding before a convolution and, of both signs, as a shortcut; max-pooling, flatten, linears."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.widen = nn.Conv2d(8, 12, 1)
        self.fc1 = nn.Linear(12 * 64, 16)
        self.fc2 = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.conv(functional.pad(image, (1, 1, 1, 1)))
        x = self.widen(x) + functional.pad(x, (0, 0, 0, 0, 2, 2))
        x = functional.max_pool2d(x, 2).flatten(1)
        logits: Tensor = self.fc2(functional.relu(self.fc1(x)))
        return logits


class NetConfig(ModelConfig):
    type: Literal["net"] = "net"

    def build(self) -> nn.Module:
        return ResidualNet()


def pictures(num: int = 32, channels: int = 3) -> dict[str, Tensor]:
    return {"image": torch.randn(num, channels, 16, 16, generator=torch.Generator().manual_seed(1))}


def with_statistics(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every batch norm statistics and an affine map as training would, some gains negative."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.3, generator=draw)  # type: ignore[union-attr]
                part.running_var.uniform_(0.5, 2, generator=draw)  # type: ignore[union-attr]
                part.weight.normal_(0, 1, generator=draw)
                part.bias.normal_(0, 0.3, generator=draw)
    return module


def float_model(net: type[nn.Module] = ResidualNet, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return Model(with_statistics(net(), seed).eval(), NetConfig())


def quantized_model(
    model: Model, inputs: dict[str, Tensor] | None = None, scheme: Scheme | None = None
) -> Model:
    inputs = inputs or pictures()
    example = {name: tensor[:2] for name, tensor in inputs.items()}
    edited = model.edited(quantizers_for(model.module, example, scheme))
    return calibrated(edited, example, [inputs], MinMax())
