"""Grouped convolutions: after a cut every group must still be as large as the others.

Legend: G = groups of the convolution, P = positions inside one group.
"""

from __future__ import annotations

import torch

from mcomp_stages.methods.pruning.label_tensors import Labels
from mcomp_stages.methods.pruning.recorded import Stored
from mcomp_stages.methods.pruning.trace import Trace


def tie_groups(
    trace: Trace, weight: Stored, inputs: Labels, outputs: Labels, num_groups: int, *, transposed: bool
) -> None:
    """Tie the inputs and outputs of a grouped convolution in the way that leaves more to choose from.

    Either whole groups go (fewer groups of the old size; a depthwise convolution has no other way), or the
    same positions of every group (as many groups, smaller ones). The first fits many small groups, the second
    few large ones, and what a chunk or a shuffle already demands decides before either. The axis of the
    weight that runs inside one group (its inputs, or its outputs if it is transposed) shrinks only in the
    second way.
    """
    inputs_GP, outputs_GP = inputs.view(num_groups, -1), outputs.view(num_groups, -1)

    def same_positions() -> None:
        trace.equal_counts.add(weight.name)
        trace.tie(inputs_GP, [0])
        trace.tie(outputs_GP, [0])
        inside = outputs_GP[0] if transposed else inputs_GP[0]
        trace.own(weight, 1, inside, output=transposed)

    def whole_groups() -> None:
        trace.carriers.add(weight.name)
        trace.tie(torch.cat([inputs_GP, outputs_GP], dim=1), [1])

    trace.choose(lambda: same_positions() if prefers_positions(trace, inputs_GP) else whole_groups())


def prefers_positions(trace: Trace, inputs_GP: Labels) -> bool:
    """Return whether the same positions of every group leave more classes than whole groups."""
    if not trace.varies(inputs_GP, 1):
        return False
    num_groups, num_positions = inputs_GP.shape
    return not trace.varies(inputs_GP, 0) or num_positions > num_groups
