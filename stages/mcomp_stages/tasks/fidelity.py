"""Say what the baseline says; no labels are needed.

    task: {type: fidelity, by: cosine}

The target of a sample is what the baseline gives for it: `baseline`, or the trained model that the pipeline
starts from. It is asked once for every sample of a split. `cosine` compares the directions of embeddings, and
trains towards a cosine of 1; `agreement` counts equal classes, and trains on the baseline's probabilities.
Drops and bounds are in this metric: `accuracy_drop: {max: 0.003}` is a mean cosine of 0.997.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.task import TaskConfig

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import Metric


class FidelityConfig(TaskConfig):
    """Agreement with the baseline: outputs and targets have one shape, (N, ...)."""

    target = "baseline"

    type: Literal["fidelity"] = "fidelity"
    by: Annotated[
        Literal["cosine", "agreement"],
        Field(description="mean cosine of the outputs, or share of samples of which the highest is the same"),
    ] = "cosine"

    @property
    def metric_name(self) -> str:
        return self.by

    @property
    def direction(self) -> Literal["higher", "lower"]:
        return "higher"

    @property
    def chooses(self) -> bool:
        return self.by == "agreement"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return 1 minus the mean cosine, or the divergence from the baseline's probabilities.

        Raises StageError if the output has another shape than the baseline's.
        """
        from mcomp_stages.tasks.following import LOSSES, require_same_shape

        require_same_shape(output, target)
        return LOSSES[self.by](output, target)

    def metric(self) -> Metric:
        """Return the mean cosine, or the share of equal argmax over axis 1."""
        from mcomp_stages.tasks.following import SCORES, MeanScore

        return MeanScore(SCORES[self.by])
