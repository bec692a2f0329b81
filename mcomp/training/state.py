"""What one epoch of training hands to the next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mcomp.data.sampler import EpochSampler
from mcomp.signals import deferred
from mcomp.training.constraints import Constraint


@dataclass(frozen=True)
class Epoch:
    """One line of a training's history.

    `lr` is the learning rate at its end; `metric` and `validation_loss` are of the validation split.
    `gradient_error` is how far rounding moved the gradients, relative to their norm, over the whole epoch.
    """

    number: int
    lr: float
    train_loss: float
    metric: float
    validation_loss: float
    gradient_error: float | None = None


@dataclass(frozen=True)
class Best:
    """The epoch to keep so far, and its tensors."""

    epoch: Epoch
    tensors: dict[str, Tensor]


@dataclass
class TrainState:
    """Everything that changes while training; all of it is tensors and numbers.

    `module` is what is trained: the model's own, or a captured graph that shares its parameters. `loss_sum`
    is the sum over the samples seen in this epoch, `rounding` the sums of squares of the gradients in it and
    of what rounding did to them. `place` is where the sampler stood after the last update or epoch that is
    part of this state: it may be ahead. `is_whole` is false while only a part has changed. `constraint` is
    what a stage applies after every update, if it does.
    """

    module: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    sampler: EpochSampler
    loss_sum: float = 0.0
    rounding: tuple[float, float] = (0.0, 0.0)
    history: list[Epoch] = field(default_factory=list)
    best: Best | None = None
    is_whole: bool = True
    constraint: Constraint | None = None
    place: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.place = self.sampler.state_dict()

    @property
    def num_updates(self) -> int:
        """How many batches were trained on."""
        return self.place["epoch"] * len(self.sampler) + self.place["position"]

    @contextmanager
    def change(self) -> Iterator[None]:
        """Change the state within the block, from one whole state to another: signals wait for its end."""
        with deferred():
            self.is_whole = False
            yield
            self.is_whole = True

    def end_batch(self, loss: float, num_samples: int, rounding: tuple[float, float] = (0.0, 0.0)) -> None:
        """Note that the weights were updated on a batch."""
        self.loss_sum += loss * num_samples
        self.rounding = self.rounding[0] + rounding[0], self.rounding[1] + rounding[1]
        self.place = self.sampler.state_dict()

    def end_epoch(self, metric: float, validation_loss: float, direction: str) -> None:
        """Note an epoch; copy its weights if it is the best on validation, by the metric, then the loss.

        One that ended before the constraint was what it shall be is no candidate.
        """
        lr = float(self.schedule.get_last_lr()[0])
        train_loss = self.loss_sum / self.sampler.num_samples
        signal, error = self.rounding
        gradient_error = math.sqrt(error / signal) if signal else None
        epoch = Epoch(self.sampler.epoch, lr, train_loss, metric, validation_loss, gradient_error)
        self.history.append(epoch)
        self.loss_sum, self.rounding = 0.0, (0.0, 0.0)
        self.place = self.sampler.state_dict()
        if self.constraint is not None and self.num_updates < self.constraint.settles_at:
            return
        if self.best is None or merit(epoch, direction) > merit(self.best.epoch, direction):
            tensors = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}
            self.best = Best(epoch, tensors)


def merit(epoch: Epoch, direction: str) -> tuple[float, float]:
    """Return what an epoch is ranked by; more is better."""
    return (epoch.metric if direction == "higher" else -epoch.metric, -epoch.validation_loss)
