"""Say which of several labels a sample has: none, one or many.

    task: {type: multilabel, by: f1}

Targets have a 0 or 1 for each label, or a probability (soft labels). Each label is a question of its own:
it trains by the binary cross entropy of its logit, and its answer is yes above a probability of one half.
`positive_weights` let the yes of rare labels count more in the loss: a number for each label.

`by`: `f1` (the mean over labels), `accuracy` (of all answers), `exact_match` (samples with every answer
right), `auroc`, `average_precision` (means over labels), as torchmetrics defines them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.errors import StageError
from mcomp.task import TaskConfig

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import Metric

    from mcomp.data.contract import DataFacts

LabelMetric = Literal["f1", "accuracy", "exact_match", "auroc", "average_precision"]


class MultilabelConfig(TaskConfig):
    """Binary cross entropy and F1; outputs are logits (N, num_classes), targets the same, from 0 to 1."""

    type: Literal["multilabel"] = "multilabel"
    num_classes: Annotated[int | None, Field(ge=1, description="labels; default: the data's")] = None
    by: Annotated[LabelMetric, Field(description="what answers are judged by")] = "f1"
    positive_weights: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...] | None,
        Field(description="how much the yes of each label counts in the loss"),
    ] = None

    def fitted_to(self, facts: DataFacts) -> MultilabelConfig:
        return self.model_copy(update={"num_classes": self.num_classes or facts.num_classes})

    @property
    def metric_name(self) -> str:
        return self.by

    @property
    def direction(self) -> Literal["higher", "lower"]:
        return "higher"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean over samples and labels. Raises StageError for targets that are no such labels."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        require_labels(output, target)
        weights = None if self.positive_weights is None else output.new_tensor(self.positive_weights)
        if weights is not None and len(weights) != output.shape[1]:
            raise StageError(
                f"{len(weights)} positive_weights for {output.shape[1]} labels; write one for each"
            )
        return binary_cross_entropy_with_logits(output, target.to(output), pos_weight=weights)

    def metric(self) -> Metric:
        """Return what logits and labels are judged by; soft labels count as yes from one half on."""
        from mcomp_stages.tasks.classification import known
        from mcomp_stages.tasks.metrics import label_metric

        number = known(self.num_classes, self.type)
        return label_metric(self.by, number, lambda output, target: (output, (target >= 0.5).long()))

    def class_hits(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return for each label how many of the samples that have it were given it, and how many have it."""
        has_NC = target >= 0.5
        return (has_NC & (output > 0)).sum(0), has_NC.sum(0)


def require_labels(output: Tensor, target: Tensor) -> None:
    """Raise StageError unless targets have a number from 0 to 1 for each of the model's answers."""
    if target.shape != output.shape:
        ours, theirs = tuple(output.shape[1:]), tuple(target.shape[1:])
        raise StageError(
            f"the model gives {ours} for a sample, and the data has {theirs}; one for each label"
        )
    lowest, highest = (float(bound) for bound in target.aminmax())
    if lowest < 0 or highest > 1:
        raise StageError(f"labels in the data go from {lowest:g} to {highest:g}; each must be from 0 to 1")
