"""How much the loss would change without a group of channels, from gradients on labelled samples.

Sources: first order, the square of the summed products of weights and gradients, Molchanov et al. 2019,
arXiv:1906.10771 (equations 8 and 9); second order, the diagonal of the Hessian as in Optimal Brain Damage,
LeCun et al. 1990 (equation 5), summed over a group.
Differs: the diagonal is the empirical Fisher information, the mean square of the gradients of single samples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mcomp.data.contract import Batch
from mcomp.errors import StageError
from mcomp.measure.accuracy import in_inference_mode
from mcomp.signals import raise_if_interrupted
from mcomp_stages.methods.pruning.evidence import Evidence
from mcomp_stages.methods.pruning.group_records import Groups
from mcomp_stages.methods.pruning.importance import Scores, summed_over_slices


def taylor_importance(groups: Groups, evidence: Evidence) -> Scores:
    """Return the mean over the batches of (sum of weight times gradient over the group), squared."""
    total, count = np.zeros(groups.num_groups), 0
    for gradient in gradients(evidence, evidence.batches()):
        products = {name: gradient[name] * evidence.parameters[name] for name in gradient}
        total += summed_over_slices(groups, products.get) ** 2
        count += 1
    return total / count


def hessian_importance(groups: Groups, evidence: Evidence) -> Scores:
    """Return half the sum over the group of the Hessian's diagonal times the squared weight."""
    diagonal = {name: torch.zeros_like(value) for name, value in evidence.parameters.items()}
    count = 0
    for gradient in gradients(evidence, single_samples(evidence.batches())):
        for name, value in gradient.items():
            diagonal[name] += value.square()
        count += 1
    losses = {name: diagonal[name] * evidence.parameters[name].square() / (2 * count) for name in diagonal}
    return summed_over_slices(groups, losses.get)


def gradients(evidence: Evidence, batches: Iterator[Batch]) -> Iterator[dict[str, Tensor]]:
    """Yield the gradient of the loss on each batch by parameter, in inference mode.

    Raises StageError if there are no samples, or if a gradient is not finite.
    """
    parameters = {name: each for name, each in evidence.module.named_parameters() if each.requires_grad}
    device = next(evidence.module.parameters()).device
    assert evidence.loss is not None
    empty = True
    with in_inference_mode(evidence.module), torch.enable_grad():
        for batch in batches:
            raise_if_interrupted()
            empty = False
            output = evidence.module(**{name: value.to(device) for name, value in batch.inputs.items()})
            loss = evidence.loss(output, batch.target.to(device))
            values = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            found = {name: value for name, value in zip(parameters, values, strict=True) if value is not None}
            require_finite(found)
            yield found
    if empty:
        raise StageError("there are no samples to score the channels with")


def require_finite(gradient: dict[str, Tensor]) -> None:
    """Raise StageError, naming the parameter, if a gradient is not finite."""
    for name, value in gradient.items():
        if not torch.isfinite(value).all():
            raise StageError("a gradient on the samples that score the channels is not finite", module=name)


def single_samples(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Cut batches into batches of one sample."""
    for batch in batches:
        for position in range(len(batch.target)):
            one = slice(position, position + 1)
            inputs = {name: value[one] for name, value in batch.inputs.items()}
            yield Batch(batch.indices[one], inputs, batch.target[one])
