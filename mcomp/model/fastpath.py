"""torch's fused encoder layer, unseen by counters, which computes padded positions in its own way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def without_fastpath() -> Iterator[None]:
    """Run `nn.TransformerEncoderLayer` and `nn.MultiheadAttention` by their ordinary operators."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
