"""Training that goes on where it was interrupted, to the same bytes: its state as tensors and numbers."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from lightning_fabric.plugins.precision import Precision
from torch import Tensor
from torch.optim import Optimizer

from mcomp.errors import StageError, named, words
from mcomp.stage import Checkpoint, Context
from mcomp.training.config import Checkpointing
from mcomp.training.state import Best, Epoch, TrainState

Tensors = dict[str, Tensor]


class Resumable:
    """One training and its checkpoints: found at the start, written while it runs and when it is stopped."""

    def __init__(
        self, state: TrainState, precision: Precision, context: Context, label: str, often: Checkpointing
    ) -> None:
        self.state, self.precision = state, precision
        self.context, self.label, self.often = context, label, often
        self.note()

    def resume(self) -> None:
        """Go to where an earlier try of this step was interrupted, if it was; changes the state in place.

        Raises StageError, and removes what was kept, if that is a state of another training.
        """
        checkpoint = self.context.checkpoints.load(self.label)
        if checkpoint is None:
            return
        try:
            restore(checkpoint, self.state, self.precision)
        except Exception as error:  # whatever optimizers, schedules and generators say to a forged state
            self.context.checkpoints.forget(self.label)
            what = f"the checkpoint of {self.label} is no state of this training ({named(words(error))})"
            raise StageError(f"{what}; it was removed: run again to begin anew") from error
        self.note()
        self.context.reporter.log(f"{self.label} goes on after update {self.state.num_updates}")

    def save(self) -> None:
        """Keep the state as it is, unless it is kept already."""
        if self.state.place != self.saved_place:
            self.context.checkpoints.save(self.label, captured(self.state, self.precision))
            self.note()

    def save_if_due(self) -> None:
        """Keep the state as it is if the last time was long enough ago."""
        steps = self.state.num_updates - self.saved_updates
        is_due = self.often.every_steps is not None and steps >= self.often.every_steps
        if is_due or time.monotonic() - self.saved_at >= self.often.every_seconds:
            self.save()

    def note(self) -> None:
        """Remember that the state as it is now need not be kept again."""
        self.saved_place, self.saved_updates = self.state.place, self.state.num_updates
        self.saved_at = time.monotonic()

    @contextmanager
    def saved_when_interrupted(self) -> Iterator[None]:
        """Keep the state if the block is interrupted, but not one that is half changed."""
        try:
            yield
        except KeyboardInterrupt:
            if self.state.is_whole:
                self.save()
            raise


def captured(state: TrainState, precision: Precision) -> Checkpoint:
    """Return everything a training goes on from. The tensors are the state's own: they change with it."""
    optimizer_tensors, optimizer_numbers = captured_optimizer(state.optimizer)
    random_tensors, random_numbers = captured_generators()
    tensors = {
        **prefixed("module", module_tensors(state)),
        **prefixed("optimizer", optimizer_tensors),
        **prefixed("best", state.best.tensors if state.best else {}),
        **prefixed("constraint", state.constraint.tensors() if state.constraint else {}),
        **prefixed("random", random_tensors),
    }
    numbers = {
        "optimizer": optimizer_numbers,
        "schedule": state.schedule.state_dict(),
        "precision": precision.state_dict(),
        "place": state.place,
        "loss_sum": state.loss_sum,
        "rounding": list(state.rounding),
        "history": [asdict(epoch) for epoch in state.history],
        "best": asdict(state.best.epoch) if state.best else None,
        "random": random_numbers,
    }
    return Checkpoint(tensors, numbers)


def restore(checkpoint: Checkpoint, state: TrainState, precision: Precision) -> None:
    """Bring a fresh training to a captured state, in place, the global generators too."""
    tensors, numbers = checkpoint.tensors, checkpoint.numbers
    saved = below("module", tensors)
    with torch.no_grad():
        for name, tensor in module_tensors(state).items():
            if saved[name].shape != tensor.shape:  # a copy would spread a smaller one
                raise ValueError(f"{name} has shape {tuple(saved[name].shape)}")
            tensor.copy_(saved[name])
        if state.constraint is not None:
            for name, tensor in state.constraint.tensors().items():
                tensor.copy_(below("constraint", tensors)[name])
    restore_optimizer(state.optimizer, below("optimizer", tensors), numbers["optimizer"])
    state.schedule.load_state_dict(numbers["schedule"])
    precision.load_state_dict(numbers["precision"])
    state.sampler.load_state_dict(numbers["place"])
    state.place = state.sampler.state_dict()
    state.loss_sum, state.rounding = numbers["loss_sum"], tuple(numbers["rounding"])
    state.history = [Epoch(**epoch) for epoch in numbers["history"]]
    if numbers["best"] is not None:
        state.best = Best(Epoch(**numbers["best"]), below("best", tensors))
    restore_generators(below("random", tensors), numbers["random"])


def module_tensors(state: TrainState) -> Tensors:
    """Return the parameters and buffers of the trained module, also those that its state dict leaves out."""
    return dict([*state.module.named_parameters(), *state.module.named_buffers()])


def captured_optimizer(optimizer: Optimizer) -> tuple[Tensors, dict[str, Any]]:
    """Return the tensors of an optimizer by parameter and name, and its numbers."""
    saved = optimizer.state_dict()
    tensors: Tensors = {}
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in saved["state"].items():
        numbers[str(index)] = {name: each for name, each in values.items() if not isinstance(each, Tensor)}
        tensors |= {f"{index}/{name}": each for name, each in values.items() if isinstance(each, Tensor)}
    return tensors, {"state": numbers, "groups": saved["param_groups"]}


def restore_optimizer(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> None:
    """Bring an optimizer of the same parameters to a captured state, in place."""
    state = {int(index): {**values, **below(index, tensors)} for index, values in numbers["state"].items()}
    optimizer.load_state_dict({"state": state, "param_groups": numbers["groups"]})


def captured_generators() -> tuple[Tensors, dict[str, Any]]:
    """Return the states of the global generators of torch, Python and NumPy."""
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"cuda/{index}": each for index, each in enumerate(torch.cuda.get_rng_state_all())}
    python, numpy = random.getstate(), np.random.get_state(legacy=False)
    numpy_numbers = {**numpy, "state": {"key": numpy["state"]["key"].tolist(), "pos": numpy["state"]["pos"]}}
    return tensors, {"python": python, "numpy": numpy_numbers}


def restore_generators(tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    """Set the global generators to captured states."""
    torch.set_rng_state(tensors["cpu"])
    gpus = below("cuda", tensors)
    if gpus:
        torch.cuda.set_rng_state_all([gpus[str(index)] for index in range(len(gpus))])
    version, inner, gauss = numbers["python"]
    random.setstate((version, tuple(inner), gauss))
    np.random.set_state(numbers["numpy"])


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Return tensors with a prefix before each name."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def below(prefix: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Return the tensors behind a prefix, by the rest of their names."""
    start = f"{prefix}/"
    return {name.removeprefix(start): each for name, each in tensors.items() if name.startswith(start)}
