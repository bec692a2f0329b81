"""Say which one of several classes a sample belongs to.

task: {type: classification}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.errors import RecipeError, StageError
from mcomp.task import TaskConfig

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import Metric

    from mcomp.data.contract import DataFacts


class ClassificationConfig(TaskConfig):
    """Cross entropy and top-1 accuracy; outputs are logits (N, num_classes), targets (N,) integers."""

    type: Literal["classification"] = "classification"
    num_classes: Annotated[int | None, Field(ge=2, description="default: the data's")] = None

    def fitted_to(self, facts: DataFacts) -> ClassificationConfig:
        return self.model_copy(update={"num_classes": self.num_classes or facts.num_classes})

    @property
    def metric_name(self) -> str:
        return "accuracy"

    @property
    def direction(self) -> Literal["higher", "lower"]:
        return "higher"

    @property
    def chooses(self) -> bool:
        return True

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross entropy. Raises StageError for a label that the model has no output for."""
        from torch.nn.functional import cross_entropy

        num_classes = output.shape[-1]
        lowest, highest = target.aminmax()
        if int(lowest) < 0 or int(highest) >= num_classes:
            wrong = int(lowest) if int(lowest) < 0 else int(highest)
            raise StageError(f"label {wrong} in the data, but the model has {num_classes} classes (from 0)")
        return cross_entropy(output, target)

    def metric(self) -> Metric:
        """Return the share of samples whose highest logit is the target's."""
        from torchmetrics.classification import MulticlassAccuracy

        if self.num_classes is None:
            raise RecipeError("classification: the data does not say num_classes; set it in the recipe")
        return MulticlassAccuracy(self.num_classes, average="micro", validate_args=False)
