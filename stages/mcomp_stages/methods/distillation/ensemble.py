"""How much each of several teachers counts, sample by sample."""

# T = teachers, N = samples, C = classes
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def equal_weights(config: Any, outputs_TNC: Tensor, target_N: Tensor) -> Tensor:
    """Return 1 / T for each teacher and sample, (T, N)."""
    num_teachers, num_samples = outputs_TNC.shape[:2]
    return outputs_TNC.new_full((num_teachers, num_samples), 1 / num_teachers)


def given_weights(config: Any, outputs_TNC: Tensor, target_N: Tensor) -> Tensor:
    """Return the weights of the recipe, brought to a sum of 1, (T, N)."""
    weights_T = outputs_TNC.new_tensor(config.weights)
    return (weights_T / weights_T.sum())[:, None].expand(outputs_TNC.shape[:2])


def confidence_weights(config: Any, outputs_TNC: Tensor, target_N: Tensor) -> Tensor:
    """Return weights that fall with a teacher's cross entropy, sum 1 for each sample, (T, N).

    Zhang et al. 2022, arXiv:2201.00007, equation 4. One teacher alone counts fully.
    """
    num_teachers = len(outputs_TNC)
    if num_teachers == 1:
        return torch.ones_like(outputs_TNC[:, :, 0])
    losses_TN = torch.stack([cross_entropy(each, target_N, reduction="none") for each in outputs_TNC])
    return (1 - losses_TN.softmax(dim=0)) / (num_teachers - 1)


WEIGHTS: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {
    "mean": equal_weights,
    "weighted": given_weights,
    "confidence": confidence_weights,
}
