"""What answers are judged by, by name: metrics of torchmetrics on the targets that data has."""

# N = samples, C = classes, L = tokens, O = numbers of an output
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import (
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    PearsonCorrCoef,
    R2Score,
    SpearmanCorrCoef,
)
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassAveragePrecision,
    MulticlassCohenKappa,
    MulticlassF1Score,
    MulticlassMatthewsCorrCoef,
    MultilabelAccuracy,
    MultilabelAUROC,
    MultilabelAveragePrecision,
    MultilabelExactMatch,
    MultilabelF1Score,
)

Prepared = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
NOT_COUNTED = -100  # the label of tokens that have none, as everywhere around transformers

# By name: the class, and how the figures of the classes become one.
OF_CLASSES: dict[str, tuple[Callable[..., Metric], dict[str, Any]]] = {
    "accuracy": (MulticlassAccuracy, {"average": "micro"}),
    "balanced_accuracy": (MulticlassAccuracy, {"average": "macro"}),
    "f1": (MulticlassF1Score, {"average": "macro"}),
    "auroc": (MulticlassAUROC, {"average": "macro"}),
    "average_precision": (MulticlassAveragePrecision, {"average": "macro"}),
    "matthews": (MulticlassMatthewsCorrCoef, {}),
    "kappa": (MulticlassCohenKappa, {}),
}
OF_LABELS: dict[str, tuple[Callable[..., Metric], dict[str, Any]]] = {
    "f1": (MultilabelF1Score, {"average": "macro"}),
    "accuracy": (MultilabelAccuracy, {"average": "micro"}),
    "exact_match": (MultilabelExactMatch, {}),
    "auroc": (MultilabelAUROC, {"average": "macro"}),
    "average_precision": (MultilabelAveragePrecision, {"average": "macro"}),
}
OF_NUMBERS: dict[str, Callable[[], Metric]] = {
    "mae": MeanAbsoluteError,
    "rmse": lambda: MeanSquaredError(squared=False),
    "r2": R2Score,
    "pearson": PearsonCorrCoef,
    "spearman": SpearmanCorrCoef,
}


class Judged(Metric):
    """A metric of torchmetrics on outputs and targets that are `prepared` for it first."""

    full_state_update = False

    def __init__(self, metric: Metric, prepared: Prepared) -> None:
        super().__init__()
        self.metric, self.prepared = metric, prepared

    def update(self, output: Tensor, target: Tensor) -> None:
        self.metric.update(*self.prepared(output, target))

    def compute(self) -> Tensor:
        return torch.as_tensor(self.metric.compute())

    def reset(self) -> None:
        super().reset()
        self.metric.reset()


def class_metric(name: str, num_classes: int, prepared: Prepared) -> Metric:
    """Return a metric of logits (N, C) and classes (N,)."""
    kind, average = OF_CLASSES[name]
    return Judged(kind(num_classes, validate_args=False, **average), prepared)


def label_metric(name: str, num_labels: int, prepared: Prepared) -> Metric:
    """Return a metric of logits (N, C) and labels (N, C), each 0 or 1."""
    kind, average = OF_LABELS[name]
    return Judged(kind(num_labels, validate_args=False, **average), prepared)


def number_metric(name: str, prepared: Prepared) -> Metric:
    """Return a metric of numbers (N,) and what they should be (N,)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Metric .* will save all targets")
        return Judged(OF_NUMBERS[name](), prepared)


def likeliest(output_NC: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits, and the class of each sample: of soft labels (N, C) the likeliest one."""
    return output_NC, target.argmax(1) if target.is_floating_point() else target


def counted_tokens(output_NLC: Tensor, target_NL: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits and the class of every token that has one, as if tokens were samples."""
    counted = target_NL != NOT_COUNTED
    return output_NLC[counted], target_NL[counted]
