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
from mcomp_stages.models.vit_module import ViT


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


class GatedNet(nn.Module):
    """Hard-swish, a squeeze-and-excitation gate, SiLU, nearest neighbours, a mirrored edge, equal windows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.reduce, self.expand = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.last = nn.Conv2d(8, 12, 3)
        self.fc = nn.Linear(12 * 4, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.hardswish(self.norm(self.stem(image)))
        gate = functional.relu(self.reduce(functional.adaptive_avg_pool2d(x, 1)))
        x = x * functional.hardsigmoid(self.expand(gate))
        x = functional.silu(self.depthwise(functional.max_pool2d(x, 2)))
        x = self.last(
            functional.pad(functional.interpolate(x, scale_factor=2.0), (1, 1, 1, 1), mode="reflect")
        )
        logits: Tensor = self.fc(functional.adaptive_avg_pool2d(x, 2).flatten(1))
        return logits


class LineNet(nn.Module):
    """Convolutions along a line, with their norm, maxima and a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(3, 8, 5, stride=2, padding=2)
        self.norm = nn.BatchNorm1d(8)
        self.conv = nn.Conv1d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8 * 64, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.max_pool1d(functional.relu(self.norm(self.stem(image.flatten(2)))), 2)
        x = functional.relu(self.conv(x) + x)
        logits: Tensor = self.fc(x.flatten(1))
        return logits


class GrowingNet(nn.Module):
    """A transposed convolution between two others."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.last = nn.Conv2d(6, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        y: Tensor = self.last(functional.relu(self.norm(self.up(functional.relu(self.down(image))))))
        return y.mean((2, 3))


class SequenceNet(nn.Module):
    """Tokens of an image: a linear with a ReLU, masked attention, a norm over tokens behind a linear."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 4, stride=4)
        self.first, self.second = nn.Linear(16, 24), nn.Linear(24, 16)
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.tokens = nn.Linear(16, 16)
        self.norm = nn.BatchNorm1d(16)
        self.fc = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.embed(image).flatten(2).transpose(1, 2)
        x = x + self.second(functional.relu(self.first(x)))
        seen = torch.arange(16) < 12
        query, key, value = self.query(x), self.key(x), self.value(x)
        x = x + functional.scaled_dot_product_attention(query, key, value, attn_mask=seen[None, None])
        x = self.norm(self.tokens(x))  # over axis 1: of the tokens, not of what the linear gives
        logits: Tensor = self.fc(x.mean(1))
        return logits


class TinyViT(ViT):
    """A vision transformer of two blocks."""

    def __init__(self) -> None:
        super().__init__(16, 4, 2, 32, 4, 40, 0.0, 3, 10)


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
