"""From a float model to one whose quantizers know their ranges, ready to be trained or converted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.model.select import select_modules
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.placement import Placement, placement
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph, canonical_graph

Inputs = Mapping[str, Tensor]


def quantizers_for(module: nn.Module, example: Inputs, keep_float: Sequence[str] = ()) -> Quantizers:
    """Return the edit that quantizes a module, except for the layers that match the patterns `keep_float`.

    Raises StageError if a pattern matches no layer that could be quantized, or if no layer is left.
    """
    graph = canonical_graph(module, example).graph
    everywhere = placement(graph)
    kept = tuple(
        dict.fromkeys(layer for pattern in keep_float for layer in matches(module, pattern, everywhere))
    )
    sites = placement(graph, kept)
    if not sites.weights:
        raise StageError("there is no convolution or linear to quantize")
    return Quantizers(activations=tuple(sites.activations), weights=tuple(sites.weights), keep_float=kept)


def matches(module: nn.Module, pattern: str, sites: Placement) -> list[str]:
    """Return the layers with quantizers that a pattern matches, or that lie in a module that it matches."""
    selected = select_modules(module, [pattern])
    layers = [
        layer
        for layer in sites.layers
        if any(layer == path or layer.startswith(f"{path}.") for path in selected)
    ]
    if not layers:
        what = f"keep_float: '{pattern}' matches {selected[0]}, which has nothing to quantize"
        raise StageError(what, about=pattern)
    return layers


def calibrated(model: Model, example: Inputs, batches: Iterable[Inputs], observer: str) -> Model:
    """Return a copy of a model with quantizers whose ranges come from `batches`."""
    model = model.copy()
    graph = model.training_module(example)
    assert isinstance(graph, QuantizedGraph)
    calibrate(graph, batches, observer)
    return model.with_trained(graph)


def calibrate(graph: QuantizedGraph, batches: Iterable[Inputs], observer: str) -> None:
    """Set the ranges of the activations by running inputs through the graph in float, in inference mode."""
    graph.train(False)
    quantizers = graph.activation_quantizers().values()
    for quantizer in quantizers:
        quantizer.observer = observer
    with torch.no_grad():
        for inputs in batches:
            graph(**inputs)
    for quantizer in quantizers:
        quantizer.observer = None


def with_moving_ranges(model: Model, num_steps: int) -> Model:
    """Return a copy whose ranges follow the data for the next `num_steps` training steps, then stay."""
    moved = model.copy()
    for name, tensor in moved.state.items():
        if name.startswith("quantizers.") and name.endswith(".updates_left"):
            tensor.fill_(num_steps)
    return moved
