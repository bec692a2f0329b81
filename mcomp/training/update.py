"""One update of the weights: forward, backward, checks, step, constraints, schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from mcomp.data.contract import Batch
from mcomp.training.companions import student_of
from mcomp.training.config import Training
from mcomp.training.constraints import Checked, ZeroedWeights
from mcomp.training.gradients import RoundedGradients
from mcomp.training.nonfinite import stop_at_gradient, stop_at_loss
from mcomp.training.state import TrainState

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Loss = Callable[[Batch, Any], Tensor]
"""The mean loss over a batch, given what the module gives."""


class Update:
    """Changes a training state by one batch at a time."""

    def __init__(
        self, state: TrainState, fabric: Fabric, loss: Loss, zeroed: ZeroedWeights, training: Training
    ) -> None:
        self.state = state
        self.fabric = fabric
        self.loss = loss
        self.zeroed = zeroed
        self.clip_norm = training.clip_norm
        self.gradients = RoundedGradients(training.gradients) if training.gradients is not None else None
        self.module, self.optimizer = fabric.setup(state.module, state.optimizer, move_to_device=False)
        # The loss scaler of 16-bit training skips updates with infinite gradients, and is meant to meet some.
        self.scaler_checks_gradients = getattr(fabric.strategy.precision, "scaler", None) is not None

    def __call__(self, batch: Batch, where: str) -> float:
        """Update the weights in place and return the loss; `where` names the update in errors.

        Raises StageError before the update if the loss or a gradient is not finite, and after it if the
        module says that it makes no sense any more.
        """
        self.optimizer.zero_grad(set_to_none=True)
        with self.gradients or nullcontext():
            output = self.module(**batch.inputs)
        loss = self.loss(batch, output)
        self.fabric.backward(loss)
        norm = self.gradient_norm()
        loss_value, norm_value = torch.stack([loss.detach(), norm]).tolist()  # the only wait for the device
        if not math.isfinite(loss_value):
            raise stop_at_loss(self.state.module, batch.inputs, loss_value, where)
        if not math.isfinite(norm_value) and not self.scaler_checks_gradients:
            raise stop_at_gradient(self.state.module, where)
        self.optimizer.step()
        if self.state.constraint is not None:
            lr = float(self.state.schedule.get_last_lr()[0])
            self.state.constraint.after_update(self.state.num_updates + 1, lr)
        self.zeroed.apply()
        student = student_of(self.state.module)
        if isinstance(student, Checked):
            student.require_sound(where)
        self.state.schedule.step()
        return float(loss_value)

    def rounding(self) -> tuple[float, float]:
        """Return the squares of the last update's gradients, and of what rounding did to them, in sums."""
        return self.gradients.take_sums() if self.gradients is not None else (0.0, 0.0)

    def gradient_norm(self) -> Tensor:
        """Return the norm of the whole gradient, which is cut down to `clip_norm` in place if that is set."""
        if self.clip_norm is not None:
            norm = self.fabric.clip_gradients(self.module, self.optimizer, max_norm=self.clip_norm)
            assert norm is not None
            return norm
        parameters = self.state.module.parameters()
        return get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
