"""Values as observers see them, and what every test asks of an observer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor

from mcomp_stages.methods.quantization.observers.choice import observer_for
from mcomp_stages.methods.quantization.observers.config import KL, MSE, MinMax, ObserverChoice, Percentile
from mcomp_stages.methods.quantization.observers.observer import Integers

UNSIGNED, SYMMETRIC = Integers(256), Integers(256, symmetric=True)
ORDERLESS: tuple[ObserverChoice, ...] = (MinMax(), Percentile(percent=99), MSE(), KL())

VALUES = st.lists(st.floats(-1e6, 1e6, width=32, allow_subnormal=False), min_size=1, max_size=40)


def observed(
    choice: ObserverChoice, batches: Sequence[Tensor], grid: Integers = UNSIGNED
) -> tuple[float, float]:
    """Return the range that an observer finds for batches in their order."""
    observer = observer_for(choice)
    for batch in batches:
        observer.update(batch)
    low, high = observer.range(grid)
    return low.item(), high.item()


def normal(num: int, seed: int = 0) -> Tensor:
    return torch.randn(num, generator=torch.Generator().manual_seed(seed))


def laplace(num: int, seed: int = 0) -> Tensor:
    """Heavy tails, as activations have."""
    generator = torch.Generator().manual_seed(seed)
    sign = torch.randint(2, (num,), generator=generator) * 2 - 1
    return sign * torch.empty(num).exponential_(generator=generator)
