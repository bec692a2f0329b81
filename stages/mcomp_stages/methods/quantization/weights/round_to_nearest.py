"""Round to nearest: the baseline of every method below 8 bits."""

from __future__ import annotations

from torch import Tensor

from mcomp_stages.methods.quantization.weights.grid import Fit, IntegerWeight, Width, grouped, on_grid


def round_to_nearest(weight_OK: Tensor, width: Width, fit: Fit) -> IntegerWeight:
    """Return the weight rounded to the grids that `fit` gives for its groups."""
    return on_grid(weight_OK, fit(grouped(weight_OK, width), width), width)
