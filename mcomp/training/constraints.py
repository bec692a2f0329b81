"""What every update must leave as it is: weights that an earlier stage set to zero."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mcomp.model.edits import State

PREFIX = "masks."


class ZeroedWeights:
    """The masks of a model's state, bound to the parameters of the module that is trained."""

    def __init__(self, module: nn.Module, state: State) -> None:
        self.zeroed: list[tuple[Tensor, Tensor]] = []
        for name, mask in state.items():
            if name.startswith(PREFIX):
                parameter = module.get_parameter(name.removeprefix(PREFIX))
                self.zeroed.append((parameter, ~mask.to(parameter.device)))

    def apply(self) -> None:
        """Set the masked weights to zero again, in place."""
        with torch.no_grad():
            for parameter, zero in self.zeroed:
                parameter.masked_fill_(zero, 0.0)
