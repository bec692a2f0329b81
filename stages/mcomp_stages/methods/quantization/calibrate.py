"""From a float model to one whose quantizers know their ranges, ready to be trained or converted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.signals import raise_if_interrupted
from mcomp_stages.methods.quantization.observers.choice import observer_for
from mcomp_stages.methods.quantization.observers.config import ObserverChoice
from mcomp_stages.methods.quantization.observers.observer import Observer
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph

Inputs = Mapping[str, Tensor]


def calibrated(
    model: Model, example: Inputs, batches: Iterable[Inputs], observer: ObserverChoice | None
) -> Model:
    """Return a copy of a model with quantizers whose ranges come from `batches`."""
    model = model.copy()
    graph = model.training_module(example)
    assert isinstance(graph, QuantizedGraph)
    calibrate(graph, batches, observer)
    return model.with_trained(graph)


def calibrate(graph: QuantizedGraph, batches: Iterable[Inputs], choice: ObserverChoice | None) -> None:
    """Set the ranges of the activations by running inputs through the graph in float, in inference mode.

    Without a choice each quantizer gets the observer that serves it.
    Raises StageError, naming the first site, if values are not finite.
    """
    graph.train(False)
    quantizers = graph.activation_quantizers()
    observers = {site: observer_for(choice or each.OBSERVER) for site, each in quantizers.items()}
    for site, quantizer in quantizers.items():
        quantizer.watch = partial(observe, observers[site], site)
    num_batches = 0
    with torch.no_grad():
        for inputs in batches:
            raise_if_interrupted()
            graph(**inputs)
            num_batches += 1
    for site, quantizer in quantizers.items():
        raise_if_interrupted()
        quantizer.watch = None
        quantizer.set_range(observers[site].range(quantizer.integers()), num_batches)


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
