# N = samples
"""Choose for each weight of a layer whether it is rounded up or down, so that the layer's outputs stay.

The nearest integer is best for each weight, not for their sum. Whether a weight goes up is relaxed to a
number between 0 and 1, trained by gradient on the outputs of the layer (or of a whole block) for calibration
samples, and pushed to 0 or 1 towards the end.

Source: Nagel et al. 2020, arXiv:2004.10568, equations 21 to 25 (rectified sigmoid, regulariser, asymmetric
reconstruction with the activation function).
Differs: the error is divided by that of rounding to nearest, so that one weight of the regulariser fits every
layer; fewer steps of a larger size (the paper: 10,000 of 0.001); what is no better than nearest is not taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Generator, Tensor, nn

from mcomp.progress import Steps
from mcomp.stage import Checkpoint
from mcomp.training.resume import below, captured_optimizer, prefixed, restore_optimizer
from mcomp_stages.methods.quantization.post_training.config import AdaRound

LOW, HIGH = -0.1, 1.1  # how far the sigmoid is stretched: beyond 0 and 1, so that both are reached
WARMUP = 0.2  # share of the steps without the regulariser
SHARPNESS = 20.0, 2.0  # the regulariser's exponent at its first step and at its last
EDGE = 1e-4  # where the rectified sigmoid has a gradient still

Outputs = Callable[[Tensor, Mapping[str, Tensor]], Tensor]
"""Gives the outputs of the samples at positions (N,) for weights by name."""


class SoftWeight(nn.Module):
    """A weight whose integers may go up or down from the ones below.

    `scale` and `zero_point` are shaped to broadcast over the weight; integers are limited to `ends`. Where
    `mask` is False the weight is pruned and stays zero.
    """

    def __init__(
        self,
        weight: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        ends: tuple[int, int],
        mask: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.scale, self.zero_point, self.ends, self.mask = scale, zero_point.to(weight.dtype), ends, mask
        steps = weight.detach() / scale
        self.floor, self.nearest = steps.floor(), self.on_grid(steps.round())
        # The start is the weight itself.
        rest = (steps - self.floor).clamp(EDGE, 1 - EDGE)
        self.logit = nn.Parameter(torch.logit((rest - LOW) / (HIGH - LOW)))

    def up(self) -> Tensor:
        """Return how far each weight goes up, from 0 to 1 (equation 23)."""
        return (torch.sigmoid(self.logit) * (HIGH - LOW) + LOW).clamp(0, 1)

    def forward(self) -> Tensor:
        """Return the weight with soft integers (equation 22)."""
        return self.on_grid(self.floor + self.up())

    def chosen(self) -> Tensor:
        """Return the weight with the integers that training chose."""
        return self.on_grid(self.floor + (self.up() >= 0.5)).detach()

    def on_grid(self, steps: Tensor) -> Tensor:
        """Return the weight that steps from zero stand for, as far as the grid reaches."""
        inside = ((steps + self.zero_point).clamp(*self.ends) - self.zero_point) * self.scale
        return inside if self.mask is None else inside * self.mask

    def undecided(self, sharpness: float) -> Tensor:
        """Return the mean over weights of how near they are to going half-way (equation 24)."""
        return (1 - (2 * self.up() - 1).abs().pow(sharpness)).mean()


class Training:
    """Soft weights on their way to integers, so that `outputs` come near `target` (N, ...).

    `nearest` is the mean squared error of rounding to nearest.
    """

    def __init__(
        self,
        weights: Mapping[str, SoftWeight],
        outputs: Outputs,
        target: Tensor,
        settings: AdaRound,
        generator: Generator,
    ) -> None:
        self.weights, self.outputs, self.target, self.settings = weights, outputs, target, settings
        self.nearest = self.error({name: weight.nearest for name, weight in weights.items()})
        self.optimizer = torch.optim.Adam([weight.logit for weight in weights.values()], lr=settings.lr)
        self.positions = shuffled(len(target), settings.batch_size, generator)

    def error(self, weights: Mapping[str, Tensor]) -> float:
        """Return the mean squared error over all samples."""
        return squared_error(self.outputs, self.target, weights, self.settings.batch_size)

    def advance(self, number: int) -> None:
        """Update the soft weights once."""
        some = next(self.positions)
        with torch.enable_grad():
            error = self.outputs(some, {name: weight() for name, weight in self.weights.items()})
            loss = (error - self.target[some]).square().mean() / self.nearest
            sharpness = sharpness_at(number, self.settings.steps)
            if sharpness is not None:
                undecided = torch.stack([weight.undecided(sharpness) for weight in self.weights.values()])
                loss = loss + self.settings.regularization * undecided.mean()
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's
        self.optimizer.step()

    def state(self) -> Checkpoint:
        """Return the soft weights and what Adam knows of them."""
        tensors, numbers = captured_optimizer(self.optimizer)
        logits = {name: weight.logit for name, weight in self.weights.items()}
        return Checkpoint({**prefixed("optimizer", tensors), **prefixed("logit", logits)}, numbers)

    def restore(self, state: Checkpoint, num_done: int) -> None:
        """Go on after so many updates."""
        for name, logit in below("logit", state.tensors).items():
            self.weights[name].logit.data.copy_(logit)
        restore_optimizer(self.optimizer, below("optimizer", state.tensors), state.numbers)
        for _ in range(num_done):
            next(self.positions)


def train_roundings(training: Training, label: str, steps: Steps) -> tuple[dict[str, Tensor], float, float]:
    """Train soft weights and return the rounded ones.

    Also returns the mean squared error of rounding to nearest and of what was chosen, both relative to the
    target. `steps` keeps how far the unit `label` is (`mcomp.stage.Context.steps`).
    """
    size = float(training.target.double().square().mean()) or 1.0
    before = training.nearest
    nearest = {name: weight.nearest for name, weight in training.weights.items()}
    if not before > 0:
        return nearest, 0.0, 0.0
    steps(label, training.settings.steps, training)
    chosen = {name: weight.chosen() for name, weight in training.weights.items()}
    after = training.error(chosen)
    if after < before:
        return chosen, before / size, after / size
    return nearest, before / size, before / size


def squared_error(outputs: Outputs, target: Tensor, weights: Mapping[str, Tensor], batch_size: int) -> float:
    """Return the mean squared error over all samples."""
    total = 0.0
    with torch.no_grad():
        for some in torch.split(torch.arange(len(target)), batch_size):
            total += float((outputs(some, weights) - target[some]).double().square().sum())
    return total / target.numel()


def sharpness_at(step: int, num_steps: int) -> float | None:
    """Return the regulariser's exponent at a step: None while warming up, then along half a cosine."""
    start = int(WARMUP * num_steps)
    if step < start:
        return None
    first, last = SHARPNESS
    done = (step - start) / max(num_steps - start, 1)
    return last + (first - last) * (0.5 + 0.5 * math.cos(done * math.pi))


def shuffled(num_samples: int, batch_size: int, generator: Generator) -> Iterator[Tensor]:
    """Yield batches of positions, in a new order for each round, without end."""
    while True:
        yield from torch.split(torch.randperm(num_samples, generator=generator), batch_size)
