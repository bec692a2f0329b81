"""Networks that are trained side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mcomp.data.contract import Split
from mcomp.measure.accuracy import Evaluation, evaluate
from mcomp.task import TaskConfig
from mcomp.training.companions import Companions


class Peers(Companions):
    """A student and its peers. While training all of them answer, in inference the one at `speaker`."""

    def __init__(self, student: nn.Module, others: Sequence[nn.Module], num_updates: int) -> None:
        super().__init__(student, num_updates)
        self.others = nn.ModuleList(others)
        self.speaker = 0

    def peers(self) -> list[nn.Module]:
        """Return all networks, the student first."""
        return [self.student, *self.others]

    def forward(self, **inputs: Tensor) -> Any:
        if not self.training:
            return self.peers()[self.speaker](**inputs)
        self.num_made += 1
        return [peer(**inputs) for peer in self.peers()]

    def evaluated(
        self, running: nn.Module, split: Split, task: TaskConfig, device: torch.device
    ) -> Evaluation:
        """Return how good the best peer is."""
        return max(self.each_evaluated(running, split, task, device), key=lambda each: rank(each, task))

    def each_evaluated(
        self, running: nn.Module, split: Split, task: TaskConfig, device: torch.device
    ) -> list[Evaluation]:
        """Return how good each peer is, the student first."""
        found = []
        for number in range(len(self.peers())):
            self.speaker = number
            found.append(evaluate(running, split, task, device=device))
        self.speaker = 0
        return found


def rank(evaluation: Evaluation, task: TaskConfig) -> tuple[float, float]:
    """Return what peers are ranked by: the metric, then the loss; more is better."""
    metric = evaluation.metric if task.direction == "higher" else -evaluation.metric
    return metric, -evaluation.loss
