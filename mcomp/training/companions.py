"""What is trained beside a model and is not part of the result: adapters, auxiliary heads, peers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mcomp.data.contract import Split
from mcomp.measure.accuracy import Evaluation, evaluate
from mcomp.task import TaskConfig


class Companions(nn.Module):
    """A student and its companions: trained, kept and resumed as one module, of which only the student stays.

    Subclasses hold their companions as submodules. In inference it answers as the student.
    """

    num_made: Tensor

    def __init__(self, student: nn.Module, num_updates: int) -> None:
        super().__init__()
        self.student = student
        self.num_updates = num_updates
        # A buffer, so that a training that goes on knows how far it was.
        self.register_buffer("num_made", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, **inputs: Tensor) -> Any:
        """Return what the loss is computed from while training, the student's output in inference."""
        if self.training:
            self.num_made += 1
        return self.student(**inputs)

    @property
    def progress(self) -> float:
        """How far the training is: 0 in its first update, 1 in its last."""
        return min(1.0, max(0, int(self.num_made) - 1) / max(1, self.num_updates - 1))

    def evaluated(
        self, running: nn.Module, split: Split, task: TaskConfig, device: torch.device
    ) -> Evaluation:
        """Return how good the epoch is that ends; `running` calls this module in the chosen precision."""
        return evaluate(running, split, task, device=device)

    def release(self) -> None:
        """Take away what was put into the student to train it, in place."""


def student_of(module: nn.Module) -> nn.Module:
    """Return the student among what is trained: what is no `Companions` has none but itself."""
    return module.student if isinstance(module, Companions) else module
