"""What one sample costs, in multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mcomp.measure.accuracy import in_inference_mode


def count_macs(module: nn.Module, example: Mapping[str, Tensor]) -> int:
    """Return the multiply-adds of convolutions, matrix products and attention for one sample.

    `example` holds the inputs by name, with the batch as first axis. Count a quantized model on its float
    module: integer operators are not known to the counter. What torch.utils.flop_counter does not count
    (element-wise operations, pooling, norms) is not in the figure.
    """
    num_samples = len(next(iter(example.values())))
    counter = FlopCounterMode(display=False)
    with in_inference_mode(module), torch.no_grad(), counter:
        module(**example)
    return int(counter.get_total_flops()) // (2 * num_samples)
