"""Networks with one particular: weights used twice or stored otherwise, fixed sizes, several inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


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


class HalvedNet(nn.Module):
    """Halves of the channels by slices, with their number in an attribute; positions rolled and picked."""

    def __init__(self) -> None:
        super().__init__()
        self.half = 12
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.last = nn.Conv2d(12, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.roll(self.stem(image), (1, 1), (2, 3))
        x = x[:, : self.half] * torch.sigmoid(x[:, self.half :])
        corners = self.last(x)[:, :, torch.tensor([0, -1])]
        return self.head(corners.mean((2, 3)))


class TwoTowers(nn.Module):
    """Two inputs through one tower, tokens and pictures, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU())
        self.words = nn.Embedding(20, 24)
        self.norm = nn.LayerNorm(24)
        self.joint = nn.Linear(48, 32)
        self.score = nn.Linear(32, 1)
        self.classes = nn.Linear(32, 20, bias=False)
        self.back = nn.Linear(32, 24)

    def forward(self, image: Tensor, other: Tensor, tokens: Tensor) -> dict[str, Tensor]:
        first, second = (self.tower(picture).mean((2, 3)) for picture in (image, other))
        text = self.norm(self.words(tokens)).mean(1)
        x = torch.relu(self.joint(torch.cat([first + text, second - text], dim=1)))
        logits = functional.linear(self.back(x), self.words.weight)
        return {"score": self.score(x), "logits": logits + self.classes(x)}
