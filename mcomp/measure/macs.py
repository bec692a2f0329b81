"""What one sample costs, in multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from mcomp.measure.accuracy import in_inference_mode
from mcomp.model.fastpath import without_fastpath


def attention_flop(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    """Return the operations of fused attention from the shapes of its inputs."""
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


# torch counts fused attention on accelerators only.
ON_THE_CPU = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flop}


def count_macs(module: nn.Module, example: Mapping[str, Tensor]) -> int:
    """Return the multiply-adds of convolutions, matrix products and attention for one sample.

    `example` holds the inputs by name, with the batch as first axis. Count a quantized model on its float
    module: integer operators are not known to the counter. What torch.utils.flop_counter does not count
    (element-wise operations, pooling, norms) is not in the figure.
    """
    num_samples = len(next(iter(example.values())))
    counter = FlopCounterMode(display=False, custom_mapping=ON_THE_CPU)
    with in_inference_mode(module), torch.no_grad(), without_fastpath(), counter:
        module(**example)
    return int(counter.get_total_flops()) // (2 * num_samples)
