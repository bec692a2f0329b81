"""From a float model to one whose quantizers know their ranges, ready to be trained or converted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.progress import Steps, in_turn
from mcomp.signals import raise_if_interrupted
from mcomp.stage import Checkpoint
from mcomp.training.resume import below, prefixed
from mcomp_stages.methods.quantization.observers.choice import observer_for
from mcomp_stages.methods.quantization.observers.config import ObserverChoice
from mcomp_stages.methods.quantization.observers.observer import Observer
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph

Inputs = Mapping[str, Tensor]


def calibrated(
    model: Model,
    example: Inputs,
    batches: Sequence[Inputs],
    observer: ObserverChoice | None,
    label: str = "calibration",
    steps: Steps = in_turn,
) -> Model:
    """Return a copy of a model with quantizers whose ranges come from `batches`.

    `steps` keeps how far the unit `label` is (`mcomp.stage.Context.steps`).
    """
    model = model.copy()
    graph = model.training_module(example)
    assert isinstance(graph, QuantizedGraph)
    calibrate(graph, batches, observer, label, steps)
    return model.with_trained(graph)


def calibrate(
    graph: QuantizedGraph,
    batches: Sequence[Inputs],
    choice: ObserverChoice | None,
    label: str = "calibration",
    steps: Steps = in_turn,
) -> None:
    """Set the ranges of the activations by running inputs through the graph in float, in inference mode.

    Without a choice each quantizer gets the observer that serves it.
    Raises StageError, naming the first site, if values are not finite.
    """
    graph.train(False)
    quantizers = graph.activation_quantizers()
    observers = {site: observer_for(choice or each.OBSERVER) for site, each in quantizers.items()}
    for site, quantizer in quantizers.items():
        quantizer.watch = partial(observe, observers[site], site)
    steps(label, len(batches), Looking(graph, batches, observers))
    for site, quantizer in quantizers.items():
        raise_if_interrupted()
        quantizer.watch = None
        quantizer.set_range(observers[site].range(quantizer.integers()), len(batches))


@dataclass(frozen=True)
class Looking:
    """Runs one batch after the other through a graph whose activations are watched by observers."""

    graph: QuantizedGraph
    batches: Sequence[Inputs]
    observers: Mapping[str, Observer]

    def advance(self, number: int) -> None:
        """Run one batch."""
        with torch.no_grad():
            self.graph(**self.batches[number])

    def state(self) -> Checkpoint:
        """Return what the observers have seen."""
        seen = {site: prefixed(site, observer.state()) for site, observer in self.observers.items()}
        return Checkpoint({name: tensor for each in seen.values() for name, tensor in each.items()})

    def restore(self, state: Checkpoint, num_done: int) -> None:
        """Let the observers go on after so many batches."""
        for site, observer in self.observers.items():
            observer.restore(below(site, state.tensors))


def observe(observer: Observer, site: str, x: Tensor) -> None:
    """Show a batch of values to an observer. Raises StageError naming the site if some are not finite."""
    try:
        observer.update(x)
    except ValueError as error:
        raise StageError(f"{error}; look at the calibration data and the weights", module=site) from error


def with_moving_ranges(model: Model, num_steps: int) -> Model:
    """Return a copy whose ranges follow the data for the next `num_steps` training steps, then stay.

    Those that do not follow what they see have no count of steps, or do not look at it.
    """
    moved = model.copy()
    for name, tensor in moved.state.items():
        if name.startswith("quantizers.") and name.endswith(".updates_left"):
            tensor.fill_(num_steps)
    return moved
