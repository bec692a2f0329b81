"""How often a group of channels is active, by the activation functions behind it.

Source: average percentage of zeros, Hu et al. 2016, arXiv:1607.03250 (equation 1).
Differs: the score is the share that is not zero, so that more is better; it is the mean over every activation
function that a group passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Interpreter, Node

from mcomp.errors import StageError
from mcomp_stages.methods.pruning.evidence import Evidence
from mcomp_stages.methods.pruning.group_records import STAYS, Groups
from mcomp_stages.methods.pruning.importance import Scores


def activity_importance(groups: Groups, evidence: Evidence) -> Scores:
    """Return the share of positive activations of each group, NaN where there is no activation function."""
    assert groups.graph is not None
    counter = ActiveShares(groups)
    inputs = [node for node in groups.graph.graph.nodes if node.op == "placeholder"]
    device = next(evidence.module.parameters()).device
    for batch in evidence.batches():
        for first in range(0, len(batch.target), num_samples(inputs)):
            some = {
                name: value[first : first + num_samples(inputs)].to(device)
                for name, value in batch.inputs.items()
            }
            if fits(inputs, some):
                with torch.no_grad():
                    counter.run(*(some[str(node.target)] for node in inputs))
    return counter.shares()


def num_samples(inputs: list[Node]) -> int:
    """Return the number of samples that the graph was captured with, which it takes for a constant."""
    return int(inputs[0].meta["val"].shape[0])


def fits(inputs: list[Node], some: Mapping[str, Tensor]) -> bool:
    """Return whether the graph takes these inputs: a last batch may be short, a sentence longer."""
    return all(some[str(node.target)].shape == node.meta["val"].shape for node in inputs)


class ActiveShares(Interpreter):
    """Counts the positive elements of each channel behind every activation function of a graph."""

    def __init__(self, groups: Groups) -> None:
        assert groups.graph is not None
        super().__init__(groups.graph)
        self._groups = groups
        self._sums = {name: torch.zeros(len(of)) for name, (_, of) in groups.activations.items()}
        self._num_runs = 0

    def run_node(self, n: Node) -> Any:
        """Compute one node, and count if it is an activation function. Overrides torch.fx."""
        result = super().run_node(n)
        if n.name in self._sums:
            axis, _ = self._groups.activations[n.name]
            self._sums[n.name] += (result > 0).float().movedim(axis, 0).flatten(1).mean(1).cpu()
        elif n.op == "output":
            self._num_runs += 1
        return result

    def shares(self) -> Scores:
        """Return the mean share of each group. Raises StageError if the graph was never run."""
        if not self._num_runs:
            raise StageError("there are no samples of the shape of the example to score the channels with")
        sums, counts = np.zeros(self._groups.num_groups), np.zeros(self._groups.num_groups)
        for name, (_, of) in self._groups.activations.items():
            cut = of != STAYS
            np.add.at(sums, of[cut], self._sums[name].double().numpy()[cut] / self._num_runs)
            np.add.at(counts, of[cut], 1)
        return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
