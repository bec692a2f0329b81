"""A small problem to train on, and the context that a stage would be given for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from mcomp.data.contract import Batch
from mcomp.data.splits import Splits, TensorSplit
from mcomp.model.example import Example
from mcomp.model.model import Model
from mcomp.model.spec import ModelConfig
from mcomp.recipe.schema import Compute, RecipeRef
from mcomp.stage import Context
from mcomp_stages.tasks.classification import ClassificationConfig

NUM_CLASSES = 3
ONE_THREAD = Compute(threads=1)


class SmallConvNet(nn.Module):
    """A convolution, a batch norm, dropout and a linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.1)
        self.fc = nn.Linear(4, NUM_CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        features = torch.relu(self.norm(self.conv(image)))
        logits: Tensor = self.fc(self.dropout(features.mean((2, 3))))
        return logits


class SmallConfig(ModelConfig):
    type: Literal["small"] = "small"

    def build(self) -> nn.Module:
        return SmallConvNet()


class Quiet:
    """A reporter that keeps what it was told."""

    def __init__(self) -> None:
        self.steps = 0
        self.figures: dict[str, float | str] = {}
        self.totals: dict[str, int] = {}

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Quiet]:
        self.totals[label] = total
        yield self

    def advance(self, steps: int = 1, **figures: float | str) -> None:
        self.steps += steps
        self.figures.update(figures)

    def log(self, message: str) -> None:
        raise AssertionError(message)

    warn = log


def small_model(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    spec = SmallConfig()
    return Model(spec.build().eval(), spec)


def small_split(num_samples: int, seed: int) -> TensorSplit:
    """Images whose texture tells their class."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(num_samples) % NUM_CLASSES
    image = 0.3 * torch.randn(num_samples, 1, 6, 6, generator=generator)
    image[target == 1] += torch.tensor([1.0, -1.0]).repeat(3)
    image[target == 2] += 1.0
    return TensorSplit(torch.arange(num_samples) + 100 * seed, {"image": image}, target)


def small_data() -> Splits:
    train = small_split(49, seed=0)
    validation, test = small_split(24, seed=1), small_split(24, seed=2)
    return Splits({"train": train, "calibration": train, "validation": validation, "test": test})


def make_context(
    data: Splits | None = None,
    *,
    seed: int = 0,
    batch_size: int = 16,
    compute: Compute = ONE_THREAD,
    models: Mapping[RecipeRef, Model] | None = None,
) -> Context:
    data = data or small_data()
    return Context(
        step="step",
        seed=seed,
        data=data,
        batch_size=batch_size,
        task=ClassificationConfig(num_classes=NUM_CLASSES),
        compute=compute,
        folder=Path("/nonexistent"),
        example=Example(data.split("calibration").batch(torch.arange(2)).inputs),
        reporter=Quiet(),
        models=models or {},
    )


def label_loss(batch: Batch, output: Tensor) -> Tensor:
    return nn.functional.cross_entropy(output, batch.target)


def weights(model: Model) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
