"""The task's metric and loss on one split: of a module, and of a file in its runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from mcomp.data.contract import Batch, Split
from mcomp.measure.runtime import Session
from mcomp.model.graph import TRAINING_ARGUMENT, set_training
from mcomp.task import TaskConfig


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
            output = module(**{name: value.to(device) for name, value in batch.inputs.items()})
            metric.update(output, target)
            total_loss += float(task.loss(output, target)) * len(target)
    return Evaluation(float(metric.compute()), total_loss / len(split))


def evaluate_file(session: Session, split: Split, task: TaskConfig, batch_size: int = 256) -> ServedQuality:
    """Evaluate a file in its runtime."""
    metric = task.metric()
    outputs, targets = [], []
    for batch in batches(split, batch_size):
        served = session.run({name: value.numpy() for name, value in batch.inputs.items()})
        output = torch.from_numpy(served)
        metric.update(output, batch.target)
        if output.ndim == 2:  # a row for each sample; with one for each token, batches differ in length
            outputs.append(output)
            targets.append(batch.target)
    shares = per_class(torch.cat(outputs), torch.cat(targets)) if outputs else ()
    return ServedQuality(float(metric.compute()), shares)


def batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """Yield a split in order, each sample once."""
    for start in range(0, len(split), batch_size):
        yield split.batch(torch.arange(start, min(start + batch_size, len(split))))


def per_class(output_NC: Tensor, target_N: Tensor) -> tuple[float | None, ...]:
    """Return the share of right argmax in each class; empty if the target is not one class a sample."""
    if target_N.is_floating_point() or target_N.ndim != 1 or output_NC.ndim != 2:
        return ()
    right_N = output_NC.argmax(dim=1) == target_N
    of_class = [right_N[target_N == label] for label in range(output_NC.shape[1])]
    return tuple(float(right.double().mean()) if len(right) else None for right in of_class)


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
