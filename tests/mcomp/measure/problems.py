"""A task and splits small enough to compute by hand."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from mcomp.data.contract import Batch
from mcomp.task import TaskConfig
from tests.mcomp.measure.files import CLASSES, IMAGE


class Classes(TaskConfig):
    """Accuracy over all samples and cross-entropy."""

    type: str = "classes"

    @property
    def metric_name(self) -> str:
        return "accuracy"

    @property
    def direction(self) -> Literal["higher"]:
        return "higher"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(output, target)

    def metric(self) -> Metric:
        return MulticlassAccuracy(num_classes=CLASSES, average="micro")


class AbsoluteError(MeanMetric):
    """The mean distance from the target."""

    def update(self, output: Tensor, target: Tensor) -> None:
        super().update((output - target).abs())


class Numbers(TaskConfig):
    """Regression: the mean absolute error, lower is better."""

    type: str = "numbers"

    @property
    def metric_name(self) -> str:
        return "error"

    @property
    def direction(self) -> Literal["lower"]:
        return "lower"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target).square().mean()

    def metric(self) -> Metric:
        return AbsoluteError()


class Images:
    """Random images with the given targets (N,)."""

    def __init__(self, target: Tensor) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(len(target), *IMAGE, generator=generator)
        self.target = target

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, positions: Tensor) -> Batch:
        return Batch(positions, {"x": self.x[positions]}, self.target[positions])
