"""What one epoch of training hands to the next."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mcomp.data.sampler import EpochSampler


@dataclass(frozen=True)
class Epoch:
    """One line of a training's history.

    `lr` is the learning rate at its end; `metric` and `validation_loss` are of the validation split.
    """

    number: int
    lr: float
    train_loss: float
    metric: float
    validation_loss: float


@dataclass(frozen=True)
class Best:
    """The epoch to keep so far, and its tensors."""

    epoch: Epoch
    tensors: dict[str, Tensor]


@dataclass
class TrainState:
    """Everything that changes while training; all of it is tensors and numbers.

    `module` is what is trained: the model's own, or a captured graph that shares its parameters. `loss_sum`
    is the sum over the samples seen in this epoch.
    """

    module: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    sampler: EpochSampler
    loss_sum: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    best: Best | None = None

    def end_epoch(self, metric: float, validation_loss: float, direction: str) -> None:
        """Note an epoch; copy its weights if it is the best on validation, by the metric, then the loss."""
        lr = float(self.schedule.get_last_lr()[0])
        train_loss = self.loss_sum / self.sampler.num_samples
        epoch = Epoch(self.sampler.epoch, lr, train_loss, metric, validation_loss)
        self.history.append(epoch)
        self.loss_sum = 0.0
        if self.best is None or merit(epoch, direction) > merit(self.best.epoch, direction):
            tensors = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}
            self.best = Best(epoch, tensors)


def merit(epoch: Epoch, direction: str) -> tuple[float, float]:
    """Return what an epoch is ranked by; more is better."""
    return (epoch.metric if direction == "higher" else -epoch.metric, -epoch.validation_loss)
