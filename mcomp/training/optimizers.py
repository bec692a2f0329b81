"""Optimizers and learning-rate schedules of torch, by the names that recipes use."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn, optim
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from mcomp.training.config import SGD, AdamW, Constant, Cosine, OneCycle, Step, Training


@dataclass(frozen=True)
class OwnRates:
    """Another learning rate (None: the same) and decay for the parameters whose names start with `prefix`.

    The schedule of the training holds for this learning rate as well.
    """

    prefix: str
    lr: float | None = None
    weight_decay: float = 0.0


def parameter_groups(module: nn.Module, weight_decay: float, own: OwnRates | None) -> list[dict[str, Any]]:
    """Return the trainable parameters in two groups: weights decay; biases, norms and scales do not.

    What has at most one axis does not decay: shrinking a norm's gain only raises the learning rate of the
    weights in front of it (Zhang et al. 2019, arXiv:1810.12281; He et al. 2019, arXiv:1812.01187).
    Parameters with rates of their own make a third group.
    """
    trainable = {name: each for name, each in module.named_parameters() if each.requires_grad}
    apart = {name for name in trainable if own is not None and name.startswith(own.prefix)}
    weights = [each for name, each in trainable.items() if each.ndim > 1 and name not in apart]
    others = [each for name, each in trainable.items() if each.ndim <= 1 and name not in apart]
    groups = [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    if own is not None and apart:
        rates = {"weight_decay": own.weight_decay, **({} if own.lr is None else {"lr": own.lr})}
        groups.append({"params": [trainable[name] for name in trainable if name in apart], **rates})
    return groups


def sgd(module: nn.Module, config: SGD, own: OwnRates | None) -> Optimizer:
    """Return torch's SGD for a module."""
    groups = parameter_groups(module, config.weight_decay, own)
    nesterov = config.nesterov and config.momentum > 0
    return optim.SGD(groups, config.lr, config.momentum, nesterov=nesterov)


def adamw(module: nn.Module, config: AdamW, own: OwnRates | None) -> Optimizer:
    """Return torch's AdamW for a module."""
    groups = parameter_groups(module, config.weight_decay, own)
    return optim.AdamW(groups, config.lr, config.betas)


def constant(optimizer: Optimizer, config: Constant, num_steps: int) -> LRScheduler:
    """Keep the learning rate."""
    return LambdaLR(optimizer, lambda step: 1.0)


def cosine(optimizer: Optimizer, config: Cosine, num_steps: int) -> LRScheduler:
    """Rise linearly over the warm-up, then fall along half a cosine (Loshchilov 2017, arXiv:1608.03983)."""
    warmup_steps = round(config.warmup * num_steps)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        done = (step - warmup_steps) / max(1, num_steps - warmup_steps)
        return config.final + (1 - config.final) * (1 + math.cos(math.pi * min(done, 1.0))) / 2

    return LambdaLR(optimizer, factor)


def one_cycle(optimizer: Optimizer, config: OneCycle, num_steps: int) -> LRScheduler:
    """Rise to the learning rate and fall to nearly zero, momentum the other way round."""
    total = max(3, num_steps)
    highest = [group["lr"] for group in optimizer.param_groups]
    # torch divides by the lengths of the rise (warmup * total - 1 steps) and of the fall.
    return OneCycleLR(optimizer, highest, total, pct_start=max(config.warmup, 2 / total))


def step(optimizer: Optimizer, config: Step, num_steps: int) -> LRScheduler:
    """Multiply the learning rate by `gamma` at each milestone."""
    milestones = sorted(round(share * num_steps) for share in config.milestones)
    return LambdaLR(optimizer, lambda step: config.gamma ** bisect.bisect_right(milestones, step))


OPTIMIZERS: dict[str, Callable[[nn.Module, Any, OwnRates | None], Optimizer]] = {"sgd": sgd, "adamw": adamw}
SCHEDULES: dict[str, Callable[[Optimizer, Any, int], LRScheduler]] = {
    "constant": constant,
    "cosine": cosine,
    "one_cycle": one_cycle,
    "step": step,
}


def make_optimizer(module: nn.Module, training: Training, own: OwnRates | None = None) -> Optimizer:
    """Return the optimizer that a recipe asks for."""
    return OPTIMIZERS[training.optimizer.type](module, training.optimizer, own)


def make_schedule(optimizer: Optimizer, training: Training, num_steps: int) -> LRScheduler:
    """Return the schedule that a recipe asks for, over `num_steps` updates in all."""
    return SCHEDULES[training.schedule.type](optimizer, training.schedule, num_steps)
