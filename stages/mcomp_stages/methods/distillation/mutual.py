"""What networks that learn together take for a teacher."""

# K = peers, N = samples, C = classes
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mcomp_stages.methods.distillation.losses import kd


def mutual_distance(outputs: Sequence[Tensor], temperature: float) -> Tensor:
    """Return the sum over the peers of the mean divergence from each of the others, a scalar.

    Zhang et al. 2018, arXiv:1706.00384, equations 5 and 9. Gradients reach a peer only through what it says
    itself. Differs: all peers are updated together, from predictions of one pass; softened by T.
    """
    total = outputs[0].new_zeros(())
    for number, output in enumerate(outputs):
        others = [other.detach() for place, other in enumerate(outputs) if place != number]
        distances = [kd(output, other, temperature).mean() for other in others]
        total = total + torch.stack(distances).mean()
    return total


def followed_distance(outputs: Sequence[Tensor], teacher_NC: Tensor, temperature: float) -> Tensor:
    """Return the sum over the peers of the divergence from one teacher, a scalar."""
    return torch.stack([kd(output, teacher_NC.detach(), temperature).mean() for output in outputs]).sum()


def best_of_each_sample(outputs_KNC: Tensor, target_N: Tensor) -> Tensor:
    """Return for each sample the logits of the peer whose cross entropy is the least (KDCL-Naive)."""
    losses_KN = torch.stack([cross_entropy(each, target_N, reduction="none") for each in outputs_KNC])
    return outputs_KNC[losses_KN.argmin(dim=0), torch.arange(outputs_KNC.shape[1])]


def lowest_logits(outputs_KNC: Tensor, target_N: Tensor) -> Tensor:
    """Return for each class the lowest logit of all peers, in units in which the target's is 0
    (KDCL-MinLogit).

    Of all teachers that can be put together class by class, this one is the surest of the target.
    """
    index_KN1 = target_N[None, :, None].expand(len(outputs_KNC), -1, 1)
    return (outputs_KNC - outputs_KNC.gather(2, index_KN1)).amin(dim=0)


TEACHERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "naive": best_of_each_sample,
    "min_logit": lowest_logits,
}


def gated_sum(outputs: Sequence[Tensor], gates_NK: Tensor) -> Tensor:
    """Return the logits of the branches weighted by a gate (ONE, equation 4)."""
    return torch.einsum("knc,nk->nc", torch.stack(list(outputs)), gates_NK)
