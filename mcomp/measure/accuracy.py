"""The task's metric and loss on one split: of a module, and of a file in its runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.fx import GraphModule

from mcomp.data.contract import Batch, Split
from mcomp.measure.classes import ClassShares
from mcomp.measure.runtime import Session
from mcomp.model.graph import TRAINING_ARGUMENT, set_training
from mcomp.signals import raise_if_interrupted
from mcomp.task import TaskConfig, one_tensor


@dataclass(frozen=True)
class Evaluation:
    """The task's metric and the mean loss over all samples of a split."""

    metric: float
    loss: float


@dataclass(frozen=True)
class ServedQuality:
    """The task's metric of a file.

    `per_class` is the share of right answers in each class, None for a class without samples; it is empty
    where the task does not choose among classes.
    """

    metric: float
    per_class: tuple[float | None, ...]


def evaluate(
    module: nn.Module,
    split: Split,
    task: TaskConfig,
    *,
    batch_size: int = 256,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Evaluate `module`, which is on `device`, in inference mode; its own mode is restored afterwards."""
    metric = task.metric().to(device)
    total_loss = 0.0
    with in_inference_mode(module), torch.no_grad():
        for batch in batches(split, batch_size):
            target = batch.target.to(device)
            output = one_tensor(module(**{name: value.to(device) for name, value in batch.inputs.items()}))
            # First: it says what does not fit together.
            total_loss += float(task.loss(output, target)) * len(target)
            metric.update(output, target)
    return Evaluation(float(metric.compute()), total_loss / len(split))


def evaluate_file(session: Session, split: Split, task: TaskConfig, batch_size: int = 256) -> ServedQuality:
    """Evaluate a file in its runtime."""
    metric = task.metric()
    classes = ClassShares()
    for batch in batches(split, batch_size):
        served = session.run({name: value.numpy() for name, value in batch.inputs.items()})
        output = torch.from_numpy(served)
        metric.update(output, batch.target)
        classes.add(task.class_hits(output, batch.target))
    return ServedQuality(float(metric.compute()), classes.shares())


def batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """Yield a split in order, each sample once."""
    for start in range(0, len(split), batch_size):
        raise_if_interrupted()
        yield split.batch(torch.arange(start, min(start + batch_size, len(split))))


@contextmanager
def in_inference_mode(module: nn.Module) -> Iterator[None]:
    """Switch a module and the captured graphs inside it to inference, and back to what they were.

    The flags are set one by one: a captured graph refuses `eval()`, and parts may be in different modes.
    """
    was_training = {part: part.training for part in module.modules()}
    training_graphs = [part for part in was_training if isinstance(part, GraphModule) and trains(part)]
    for part in was_training:
        part.training = False
    for graph in training_graphs:
        set_training(graph, False)
    try:
        yield
    finally:
        for part, training in was_training.items():
            part.training = training
        for graph in training_graphs:
            set_training(graph, True)


def trains(graph_module: GraphModule) -> bool:
    """Return whether a captured graph runs batch norm or dropout as in training."""
    return any(
        node.args[TRAINING_ARGUMENT[node.target]]
        for node in graph_module.graph.nodes
        if node.target in TRAINING_ARGUMENT
    )
