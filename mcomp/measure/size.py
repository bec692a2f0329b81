"""How many numbers a model has."""

from __future__ import annotations

from torch import nn


def parameter_count(module: nn.Module) -> int:
    """Return the number of parameters; one that is shared by several modules counts once."""
    return sum(parameter.numel() for parameter in module.parameters())
