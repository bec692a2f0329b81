"""The task's metric and loss of a model on a split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mcomp.data.contract import Split
from mcomp.data.sampler import batches_in_order
from mcomp.task import TaskConfig
from mcomp.training.device import to_device

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Evaluation:
    """The task's metric, and its mean loss over the samples."""

    metric: float
    loss: float


def evaluate(module: nn.Module, split: Split, task: TaskConfig) -> Evaluation:
    """Return what a module, already in inference mode, reaches on a split."""
    device = next(module.parameters()).device
    metric = task.metric().to(device)
    total = torch.zeros((), device=device)
    with torch.inference_mode():
        for positions in batches_in_order(len(split), EVALUATION_BATCH):
            batch = to_device(split.batch(positions), device)
            output = module(**batch.inputs)
            metric.update(output, batch.target)
            total += task.loss(output, batch.target) * len(positions)
    return Evaluation(float(metric.compute()), float(total) / len(split))
