"""Say numbers.

    task: {type: regression, distance: huber, by: rmse}

Outputs and targets have one number a sample, or equally many. `distance`: `mse`, `mae`, or `huber` (squared
up to an error of 1, then straight: outliers pull less). `by`: `mae` and `rmse` (lower is better), `r2`,
`pearson`, `spearman` (higher is better), over all numbers together. Targets far from 0 train badly: scale
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.errors import StageError
from mcomp.task import TaskConfig

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import Metric

LOWER_IS_BETTER = frozenset({"mae", "rmse"})


class RegressionConfig(TaskConfig):
    """Distances between numbers; outputs (N,) or (N, numbers), targets the same."""

    type: Literal["regression"] = "regression"
    distance: Annotated[Literal["mse", "mae", "huber"], Field(description="what training makes small")] = (
        "mse"
    )
    by: Annotated[
        Literal["mae", "rmse", "r2", "pearson", "spearman"],
        Field(description="what answers are judged by"),
    ] = "rmse"

    @property
    def metric_name(self) -> str:
        return self.by

    @property
    def direction(self) -> Literal["higher", "lower"]:
        return "lower" if self.by in LOWER_IS_BETTER else "higher"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean distance. Raises StageError if a sample has other numbers than the model gives."""
        from torch.nn import functional

        losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
            "mse": functional.mse_loss,
            "mae": functional.l1_loss,
            "huber": functional.huber_loss,
        }
        return losses[self.distance](*numbers(output, target))

    def metric(self) -> Metric:
        """Return what numbers are judged by."""
        from mcomp_stages.tasks.metrics import number_metric

        return number_metric(self.by, numbers)


def numbers(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return what a model gives and what it should give, each one after the other.

    Raises StageError if they are not equally many for each sample.
    """
    given, wanted = output.numel() // len(output), target.numel() // len(target)
    if given != wanted:
        raise StageError(f"the model gives {given} numbers for a sample, and the data has {wanted}")
    return output.flatten(), target.to(output).flatten()
