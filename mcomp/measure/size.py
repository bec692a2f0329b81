"""How many numbers a model has, and how many bytes they take."""

from __future__ import annotations

from torch import nn


def parameter_count(module: nn.Module) -> int:
    """Return the number of parameters; one that is shared by several modules counts once."""
    return sum(parameter.numel() for parameter in module.parameters())


def num_bytes(module: nn.Module) -> int:
    """Return the bytes of all parameters and buffers that are kept."""
    return sum(int(tensor.nbytes) for tensor in module.state_dict().values())
