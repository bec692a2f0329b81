"""What the teachers say about the samples of the training split."""

# T = teachers, N = samples in a batch, C = classes, S = samples of the split
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mcomp.data.contract import Batch, Split
from mcomp.measure.accuracy import batches
from mcomp.training.device import to_device

BATCH_SIZE = 256
Teachers = Callable[[Batch], Tensor]
"""The teachers' outputs for a batch, (T, N, C)."""


def teachers_on(split: Split, modules: Sequence[nn.Module], device: torch.device) -> Teachers:
    """Return the teachers' outputs by batch; `modules` are in inference mode and on `device`.

    Where the same sample always looks the same, each teacher sees it once.
    """
    if split.augmented:
        return lambda batch: outputs(modules, batch)
    seen = [to_device(batch, device) for batch in batches(split, BATCH_SIZE)]
    outputs_TSC = torch.cat([outputs(modules, batch) for batch in seen], dim=1)
    indices_S = torch.cat([batch.indices for batch in seen])
    rows = torch.full((int(indices_S.max()) + 1,), -1)
    rows[indices_S] = torch.arange(len(indices_S))
    return lambda batch: outputs_TSC[:, rows[batch.indices].to(device)]


def outputs(modules: Sequence[nn.Module], batch: Batch) -> Tensor:
    """Return what each module says about a batch, (T, N, C), without gradients."""
    with torch.no_grad():
        return torch.stack([module(**batch.inputs) for module in modules])
