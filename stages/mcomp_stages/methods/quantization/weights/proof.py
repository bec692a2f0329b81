"""The proof that what is served computes what the model with its rounded weights computes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mcomp.errors import StageError
from mcomp.model.model import Model

LARGEST_ERROR = 1e-4  # of the largest output: sums in another order


def require_same_outputs(model: Model, example: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> float:
    """Return how far the graph that unpacks codes is from the module, relative to the largest output.

    Raises StageError if that is more than sums in another order make.
    """
    served = model.inference_module(example)
    with torch.no_grad():
        expected, given = model.module.eval()(**inputs), served(**inputs)
    error: float = ((given - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).item()
    if not error <= LARGEST_ERROR:
        raise StageError(f"with its weights unpacked, the output differs by {error:.2%} of its largest value")
    return error
