"""How similar samples are to each other, by two models."""

# N = samples, W = width, P = pairs
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torchmetrics import Metric
from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef

from mcomp.errors import StageError

MOST_PAIRS = 2**19
CORRELATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "spearman": spearman_corrcoef,
    "pearson": pearson_corrcoef,
}


class PairCorrelation(Metric):
    """The correlation between the cosines of pairs of outputs and those of the same pairs of targets."""

    higher_is_better = True
    full_state_update = False

    def __init__(self, correlation: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.correlation = correlation
        self.add_state("outputs", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")

    outputs: list[Tensor]
    targets: list[Tensor]

    def update(self, output: Tensor, target: Tensor) -> None:
        if output.ndim != 2 or target.ndim != 2:
            shapes = f"{tuple(output.shape[1:])}, the baseline {tuple(target.shape[1:])}"
            raise StageError(
                f"the model gives {shapes} for a sample; embeddings are one vector (output: embedding)"
            )
        self.outputs.append(output.double())
        self.targets.append(target.double())

    def compute(self) -> Tensor:
        outputs_NW, targets_NW = torch.cat(self.outputs), torch.cat(self.targets)
        if len(outputs_NW) < 3:
            raise StageError("similarities of fewer than 3 samples cannot be compared")
        return self.correlation(pair_cosines(outputs_NW), pair_cosines(targets_NW))


def cosine_matrix(vectors_NW: Tensor) -> Tensor:
    """Return the cosine of every vector with every other (N, N)."""
    directions_NW = normalize(vectors_NW, dim=1)
    return directions_NW @ directions_NW.T


def pair_cosines(vectors_NW: Tensor) -> Tensor:
    """Return the cosines of all pairs (P,), or, if there are too many, of each vector with the next few."""
    directions_NW = normalize(vectors_NW, dim=1)
    number = len(directions_NW)
    if number * (number - 1) // 2 <= MOST_PAIRS:
        left, right = torch.triu_indices(number, number, 1)
        return (directions_NW @ directions_NW.T)[left, right]
    distances = range(1, max(1, MOST_PAIRS // number) + 1)
    return torch.cat([(directions_NW * directions_NW.roll(-step, 0)).sum(1) for step in distances])
