"""Say which one of several classes a sample belongs to: of images, texts (sequences), or arrays.

    task: {type: classification, by: f1}

Trains by cross entropy, also on soft labels: a probability for each class (N, num_classes) as target. What is
measured has classes; of a soft label it is the likeliest one. `class_weights` are for data with rare classes:
a number for each class, by which its samples count more or less in the loss, or `balanced`: the mean number
of samples of a class, divided by its own.

`by`: `accuracy`; `balanced_accuracy` (the mean over classes of the share answered rightly), `f1`, `auroc`,
`average_precision` (means over classes too), `matthews`, `kappa`, as torchmetrics defines them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.errors import Problem, RecipeError, StageError
from mcomp.task import TaskConfig, one_tensor

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import Metric

    from mcomp.data.contract import DataFacts

ClassMetric = Literal[
    "accuracy", "balanced_accuracy", "f1", "auroc", "average_precision", "matthews", "kappa"
]
Weights = tuple[Annotated[float, Field(gt=0)], ...]


class ClassificationConfig(TaskConfig):
    """Cross entropy and accuracy; outputs are logits (N, num_classes), targets (N,) integers."""

    type: Literal["classification"] = "classification"
    num_classes: Annotated[int | None, Field(ge=2, description="default: the data's")] = None
    by: Annotated[ClassMetric, Field(description="what answers are judged by")] = "accuracy"
    class_weights: Annotated[
        Literal["balanced"] | Weights | None,
        Field(description="how much a sample of each class counts in the loss, or balanced"),
    ] = None

    def fitted_to(self, facts: DataFacts) -> ClassificationConfig:
        num_classes = self.num_classes or facts.num_classes
        weights = fitted_weights(self.class_weights, num_classes, facts)
        return self.model_copy(update={"num_classes": num_classes, "class_weights": weights})

    @property
    def metric_name(self) -> str:
        return self.by

    @property
    def direction(self) -> Literal["higher", "lower"]:
        return "higher"

    @property
    def chooses(self) -> bool:
        return True

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross entropy.

        Raises StageError for outputs that are no numbers of classes, and for a label that has none.
        """
        from torch.nn.functional import cross_entropy

        if one_tensor(output).ndim != 2:
            what = f"the model gives numbers of shape {tuple(output.shape[1:])} for a sample"
            raise StageError(f"{what}, and classification needs one for each class; choose another task")
        if not target.is_floating_point():
            require_classes(target, output.shape[-1], self.num_classes)
        elif target.shape != output.shape:
            what = f"soft labels are {tuple(target.shape[1:])} a sample, and the model gives"
            raise StageError(f"{what} {tuple(output.shape[1:])}; both must have a number for each class")
        return cross_entropy(output, target, self.weights(output))

    def weights(self, output: Tensor) -> Tensor | None:
        """Return how much each class counts, where and as wide as `output`, or None if all count alike."""
        assert self.class_weights != "balanced", "fitted_to puts numbers in its place"
        return None if self.class_weights is None else output.new_tensor(self.class_weights)

    def metric(self) -> Metric:
        """Return what logits and classes, or soft labels, are judged by."""
        from mcomp_stages.tasks.metrics import class_metric, likeliest

        return class_metric(self.by, known(self.num_classes, self.type), likeliest)


def require_classes(target: Tensor, num_outputs: int, num_classes: int | None) -> None:
    """Raise StageError for a label that is no class of the model, and for outputs that are other classes."""
    lowest, highest = (int(bound) for bound in target.aminmax())
    if lowest < 0 or highest >= num_outputs:
        label = lowest if lowest < 0 else highest
        raise StageError(f"label {label} in the data, but the model has {num_outputs} classes (from 0)")
    if num_classes is not None and num_outputs != num_classes:
        raise StageError(
            f"the model gives {num_outputs} numbers for {num_classes} classes: they are no scores of these "
            "(hidden states, or the classes of other data?). Take a model that ends in a classifier of them, "
            f"or say num_classes: {num_outputs} of the task if it is right"
        )


def known(num_classes: int | None, task: str) -> int:
    """Return the number of classes. Raises RecipeError if nothing says it."""
    if num_classes is None:
        raise RecipeError(f"{task}: the data does not say num_classes; set it in the recipe")
    return num_classes


def fitted_weights(
    weights: Literal["balanced"] | Weights | None, num_classes: int | None, facts: DataFacts
) -> Weights | None:
    """Return a number for each class, or None. Raises RecipeError if they do not fit the data."""
    if weights == "balanced":
        if facts.class_counts is None or 0 in facts.class_counts:
            what = "the data does not say before loading how many samples each class has"
            raise RecipeError(Problem("", "class_weights", what, "write a number for each class"))
        mean = sum(facts.class_counts) / len(facts.class_counts)
        return tuple(mean / count for count in facts.class_counts)
    if weights is not None and num_classes is not None and len(weights) != num_classes:
        what = f"{len(weights)} weights for {num_classes} classes"
        raise RecipeError(Problem("", "class_weights", what, "write one for each class, in their order"))
    return weights
