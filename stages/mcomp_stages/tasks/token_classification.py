"""Say of which class each token of a text is: names, parts of speech.

    task: {type: token_classification, by: f1}

Outputs have logits for each token (N, L, num_classes), as transformers' `family: token_classification` gives
them; targets a class for each token (N, L). A target of -100 is not counted: padding, and the pieces of a
word behind its first. `by` and `class_weights` are those of `classification`, with tokens in the place of
samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.errors import StageError
from mcomp.task import TaskConfig
from mcomp_stages.tasks.classification import ClassMetric, Weights, fitted_weights, known, require_classes

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import Metric

    from mcomp.data.contract import DataFacts


class TokenClassificationConfig(TaskConfig):
    """Cross entropy and accuracy of tokens; outputs (N, L, num_classes), targets (N, L), -100: none."""

    type: Literal["token_classification"] = "token_classification"
    num_classes: Annotated[int | None, Field(ge=2, description="default: the data's")] = None
    by: Annotated[ClassMetric, Field(description="what answers are judged by")] = "accuracy"
    class_weights: Annotated[
        Weights | None, Field(description="how much a token of each class counts in the loss")
    ] = None

    def fitted_to(self, facts: DataFacts) -> TokenClassificationConfig:
        num_classes = self.num_classes or facts.num_classes
        weights = fitted_weights(self.class_weights, num_classes, facts)
        return self.model_copy(update={"num_classes": num_classes, "class_weights": weights})

    @property
    def metric_name(self) -> str:
        return self.by

    @property
    def direction(self) -> Literal["higher", "lower"]:
        return "higher"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean over tokens. Raises StageError for labels that do not fit, or if none counts."""
        from torch.nn.functional import cross_entropy

        logits, classes = self.tokens(output, target)
        weights = None if self.class_weights is None else output.new_tensor(self.class_weights)
        return cross_entropy(logits, classes, weights)

    def tokens(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits and classes of the tokens that count."""
        from mcomp_stages.tasks.metrics import counted_tokens

        if output.shape[:-1] != target.shape:
            what = f"the model gives {tuple(output.shape[1:])} for a sample, and the data has"
            raise StageError(f"{what} {tuple(target.shape[1:])}; both must have every token")
        logits, classes = counted_tokens(output, target)
        if len(classes) == 0:
            raise StageError("no token of a batch has a label that counts; -100 stands for those that do not")
        require_classes(classes, output.shape[-1], self.num_classes)
        return logits, classes

    def metric(self) -> Metric:
        """Return what tokens are judged by."""
        from mcomp_stages.tasks.metrics import class_metric

        return class_metric(self.by, known(self.num_classes, self.type), self.tokens)

    def class_hits(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return for each class how many of its tokens are answered rightly, and how many it has."""
        return super().class_hits(*self.tokens(output, target))
