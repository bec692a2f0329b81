"""What the model is for: the loss, the metric and its direction, and what an output means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mcomp.config import PluginConfig
from mcomp.errors import StageError

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import Metric

    from mcomp.data.contract import DataFacts


class TaskConfig(PluginConfig):
    """Base of the tasks, found by name through `mcomp.tasks`.

    `target`: where the targets come from: labels of the data, or what the baseline says about the samples.
    """

    target: ClassVar[Literal["data", "baseline"]] = "data"

    def fitted_to(self, facts: DataFacts) -> TaskConfig:
        """Return a copy in which what was left open (`num_classes: null`) is taken from the data."""
        return self

    @property
    def metric_name(self) -> str:
        """The name of the metric in reports and in `require`."""
        raise NotImplementedError

    @property
    def direction(self) -> Literal["higher", "lower"]:
        """Which way the metric is better."""
        raise NotImplementedError

    @property
    def chooses(self) -> bool:
        """Whether axis 1 of an output has a score for each class, of which the highest is the answer."""
        return False

    def class_hits(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return for each class how many samples of a batch are answered rightly, and how many it has (C,).

        By default of targets (N,) that are classes and outputs (N, C); None where a target has no class.
        """
        if target.is_floating_point() or target.ndim != 1 or output.ndim != 2:
            return None
        right, num_classes = target[output.argmax(1) == target], output.shape[1]
        return right.bincount(minlength=num_classes), target.bincount(minlength=num_classes)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss over the batch, a scalar."""
        raise NotImplementedError

    def metric(self) -> Metric:
        """Return a fresh torchmetrics metric that takes (output, target)."""
        raise NotImplementedError


def one_tensor(output: Any) -> Tensor:
    """Return the output of a model. Raises StageError if it is no tensor: no task knows which part counts."""
    from torch import Tensor

    if not isinstance(output, Tensor):
        what = f"the model gives a {type(output).__name__}, and a task judges one tensor"
        raise StageError(f"{what}; let forward return the one that counts")
    return output
