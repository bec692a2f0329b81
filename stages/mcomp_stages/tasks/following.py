"""How near outputs are to what another model gave for the same samples."""

# N = samples, C = classes
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, kl_div, log_softmax
from torchmetrics import Metric

from mcomp.errors import StageError


class MeanScore(Metric):
    """The mean over all samples of a score for each (N,)."""

    higher_is_better = True
    full_state_update = False

    def __init__(self, score: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.score = score
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    total: Tensor
    count: Tensor

    def update(self, output: Tensor, target: Tensor) -> None:
        require_same_shape(output, target)
        self.total += self.score(output, target).double().sum()
        self.count += len(output)

    def compute(self) -> Tensor:
        return self.total / self.count


def cosines(output: Tensor, target: Tensor) -> Tensor:
    """Return the cosine of each sample's whole output with its target (N,); 1 where both are zero."""
    output_NO, target_NO = output.flatten(1).double(), target.flatten(1).double()
    both_zero = ~output_NO.any(1) & ~target_NO.any(1)
    return torch.where(both_zero, 1.0, cosine_similarity(output_NO, target_NO, dim=1))


def same_choices(output_NC: Tensor, target_NC: Tensor) -> Tensor:
    """Return for each sample how much of its choices are the same, argmax over axis 1 (N,)."""
    same = output_NC.argmax(1) == target_NC.argmax(1)
    return same.flatten(1).double().mean(1) if same.ndim > 1 else same.double()


def cosine_loss(output: Tensor, target: Tensor) -> Tensor:
    """Return 1 minus the mean cosine, a scalar."""
    return 1 - cosine_similarity(output.flatten(1), target.flatten(1), dim=1).mean()


def probability_loss(output_NC: Tensor, target_NC: Tensor) -> Tensor:
    """Return the mean divergence KL(target || output) of the probabilities over axis 1, a scalar."""
    output, target = (log_softmax(each, dim=1) for each in (output_NC, target_NC))
    return kl_div(output, target, reduction="none", log_target=True).sum(1).mean()


SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cosine": cosines, "agreement": same_choices}
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": cosine_loss,
    "agreement": probability_loss,
}


def require_same_shape(output: Tensor, target: Tensor) -> None:
    """Raise StageError if the model does not answer as the baseline does."""
    if output.shape != target.shape:
        ours, theirs = tuple(output.shape[1:]), tuple(target.shape[1:])
        raise StageError(f"the model gives {ours} for a sample, the baseline {theirs}; they must be the same")
