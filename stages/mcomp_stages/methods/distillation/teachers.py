"""What the teachers say about the samples of the training split."""

# T = teachers, N = samples in a batch, C = classes, S = samples of the split
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mcomp.data.contract import Batch, Split
from mcomp.data.sampler import batches_in_order
from mcomp.training.device import to_device
from mcomp.training.evaluate import EVALUATION_BATCH

Teachers = Callable[[Batch], Tensor]
"""The teachers' outputs for a batch, (T, N, C)."""


def teachers_on(split: Split, modules: Sequence[nn.Module], device: torch.device) -> Teachers:
    """Return the teachers' outputs by batch; `modules` are in inference mode and on `device`.

    Where the same sample always looks the same, each teacher sees it once.
    """
    if split.augmented:
        return lambda batch: outputs(modules, batch)
    batches = [
        to_device(split.batch(positions), device)
        for positions in batches_in_order(len(split), EVALUATION_BATCH)
    ]
    outputs_TSC = torch.cat([outputs(modules, batch) for batch in batches], dim=1)
    indices_S = torch.cat([batch.indices for batch in batches])
    rows = torch.full((int(indices_S.max()) + 1,), -1)
    rows[indices_S] = torch.arange(len(indices_S))
    return lambda batch: outputs_TSC[:, rows[batch.indices].to(device)]


def outputs(modules: Sequence[nn.Module], batch: Batch) -> Tensor:
    """Return what each module says about a batch, (T, N, C), without gradients."""
    with torch.no_grad():
        return torch.stack([module(**batch.inputs) for module in modules])
