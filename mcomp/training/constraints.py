"""What must hold after every update: weights at zero stay so, a stage's own constraint, and a module may say
that it makes no sense.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from mcomp.model.edits import State

PREFIX = "masks."


@runtime_checkable
class Checked(Protocol):
    """A module that knows when it makes no sense any more."""

    def require_sound(self, where: str) -> None:
        """Raise StageError, naming the part, if an update left nonsense; `where` names the update."""
        ...


class Constraint(Protocol):
    """Changes the weights in place after every update: a mask that grows, a penalty.

    `settles_at` is the number of updates after which it is what it shall be: no epoch that ends before is
    kept.
    """

    settles_at: int

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what it has to remember, the tensors themselves: they are part of every checkpoint."""

    def after_update(self, number: int, lr: float) -> None:
        """Apply it after update `number`, the first is 1, which was made with the learning rate `lr`."""


Constrain = Callable[[nn.Module], Constraint]
"""Binds a constraint to the module that is trained."""


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
