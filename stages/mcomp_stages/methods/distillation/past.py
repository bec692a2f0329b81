"""Targets softened by what a network said an epoch ago (PS-KD)."""

# S = samples of the split, N = samples in a batch, C = classes
from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, one_hot

from mcomp.data.contract import Batch, Split
from mcomp.measure.accuracy import batches
from mcomp.model.model import Model
from mcomp.stage import Context
from mcomp.training.companions import Companions
from mcomp.training.config import Training
from mcomp.training.device import device_of
from mcomp.training.loop import Fit, fit, num_updates
from mcomp_stages.methods.distillation.outputs import require_classes, require_labels
from mcomp_stages.methods.distillation.proposals import called_once
from mcomp_stages.methods.distillation.self_config import PastSelf
from mcomp_stages.methods.distillation.terms import KD

BATCH_SIZE = 256


class Remembering(Companions):
    """A student, and what it said about each sample when it was last trained on it (S, C)."""

    past: Tensor

    def __init__(
        self, student: nn.Module, indices_S: Tensor, num_classes: int, num_updates: int, num_epochs: int
    ) -> None:
        super().__init__(student, num_updates)
        self.num_epochs = num_epochs
        self.indices_S = indices_S.sort().values
        past_SC = torch.zeros(len(indices_S), num_classes, device=device_of(student))
        # Part of the state that a training goes on from, but of no use to be kept with the best epoch.
        self.register_buffer("past", past_SC, persistent=False)

    @property
    def epoch(self) -> int:
        """The number of the epoch that the last update is in, from 0."""
        return max(0, int(self.num_made) - 1) * self.num_epochs // self.num_updates

    def exchanged(self, batch: Batch, said_NC: Tensor) -> Tensor:
        """Return what was said about the samples of a batch before, and remember what is said now."""
        rows = torch.searchsorted(self.indices_S, batch.indices).to(self.past.device)
        before = self.past[rows]
        self.past[rows] = said_NC
        return before


def softened_loss(output_NC: Tensor, target_N: Tensor, past_NC: Tensor, share: float) -> Tensor:
    """Return the mean cross entropy with targets of which `share` is the past, a scalar (equation 5)."""
    hard_NC = one_hot(target_N, output_NC.shape[1]).to(output_NC.dtype)
    target_NC = (1 - share) * hard_NC + share * past_NC
    return -(target_NC * log_softmax(output_NC, dim=1)).sum(dim=1).mean()


@dataclass
class PastTeaching:
    """The loss of a network that follows its own past. There is none in the first epoch."""

    config: PastSelf
    num_epochs: int
    remembering: Remembering | None = field(default=None)

    def __call__(self, batch: Batch, output: Tensor) -> Tensor:
        """Return the loss, and remember the output."""
        assert self.remembering is not None
        epoch = self.remembering.epoch
        past = self.remembering.exchanged(batch, output.detach().softmax(dim=1))
        return softened_loss(output, batch.target, past, self.share(epoch))

    def share(self, epoch: int) -> float:
        """Return how much of the target is the past (equation 6, epochs counted from 0)."""
        return self.config.weight * (epoch + 1) / self.num_epochs if epoch > 0 else 0.0


def fit_with_past(model: Model, config: PastSelf, training: Training, context: Context) -> Fit:
    """Return the student as it was trained on softened targets. Raises StageError."""
    split = context.data.split("train")
    require_labels(config, split.batch(torch.arange(2)).target, "ps_kd")
    output = called_once(model.module, context.example)
    require_classes(KD(), output)
    teaching = PastTeaching(config, training.epochs)

    def beside(student: nn.Module) -> Remembering:
        updates = num_updates(training, context)
        indices_S = indices_of(split)
        teaching.remembering = Remembering(student, indices_S, output.shape[1], updates, training.epochs)
        return teaching.remembering

    return fit(model, training, context, label="past", loss=teaching, beside=beside)


def indices_of(split: Split) -> Tensor:
    """Return the indices of all samples of a split, (S,)."""
    return torch.cat([batch.indices for batch in batches(split, BATCH_SIZE)])
