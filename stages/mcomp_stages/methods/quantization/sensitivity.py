"""What each layer alone costs: the model in float but for the quantizers of one layer.

The costs of single layers do not add up to that of all of them, but they order the layers: those at the top
are the ones to keep in float, or to give more bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from mcomp.model.graph import attribute, module_path
from mcomp.model.model import Model
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.segments import quantized_layers, weight_name
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph

Figure = Callable[[nn.Module], float]


@dataclass(frozen=True)
class Unit:
    """What is quantized alone: a layer's weight and its input, or an activation that no layer reads.

    `layers` are the module paths (several, if they share a weight), `sites` the quantizers; `bits` is the
    width of the weight, or of the activation. An input that other layers read too is rounded for them as
    well.
    """

    name: str
    layers: tuple[str, ...]
    sites: tuple[str, ...]
    bits: int


class Open(nn.Module):
    """Lets everything pass, in the place of a quantizer."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def quantized_units(model: Model, graph: QuantizedGraph) -> tuple[Unit, ...]:
    """Return what can be quantized alone, in the order of the graph: layers, then activations between them.

    `graph` is the training module of `model`, which ends with its quantizers.
    """
    edit = quantizers_of(model)
    paths: dict[str, list[str]] = {}
    for layer in quantized_layers(graph):
        paths.setdefault(weight_name(graph, layer), []).append(module_path(layer))
    layers = [
        Unit(
            found[0], tuple(dict.fromkeys(found)), (*edit.weights[name].inputs, name), edit.weights[name].bits
        )
        for name, found in paths.items()
    ]
    read = {site for unit in layers for site in unit.sites}
    between = [
        Unit(site, (), (site,), grid.bits) for site, grid in edit.activations.items() if site not in read
    ]
    return (*layers, *between)


def quantizers_of(model: Model) -> Quantizers:
    """Return the edit that put the quantizers into a model."""
    (edit,) = (edit for edit in model.edits if isinstance(edit, Quantizers))
    return edit


@contextmanager
def only(graph: QuantizedGraph, sites: Sequence[str]) -> Iterator[QuantizedGraph]:
    """Let the quantizers at all sites but these pass everything, while the block runs."""
    closed = {
        str(node.target): graph.get_submodule(str(node.target))
        for node in graph.sites()
        if node.meta["site"] not in sites
    }
    for path in closed:
        put(graph, path, Open())
    try:
        yield graph
    finally:
        for path, quantizer in closed.items():
            put(graph, path, quantizer)


def put(graph: QuantizedGraph, path: str, module: nn.Module) -> None:
    """Set the module that a call runs."""
    owner, _, name = path.rpartition(".")
    setattr(attribute(graph, owner), name, module)


def layer_figures(
    model: Model, example: Mapping[str, Tensor], figure: Figure, units: Sequence[Unit] | None = None
) -> dict[str, float]:
    """Return a figure of the model with each unit quantized alone, by the unit's name; all units by default.

    `model` has calibrated quantizers; `figure` is a metric on validation, or the SQNR of the outputs. It is
    given the graph with quantizers, in inference mode, and must leave it as it is.
    """
    graph = model.training_module(example)
    assert isinstance(graph, QuantizedGraph)
    figures = {}
    for unit in quantized_units(model, graph) if units is None else units:
        with only(graph, unit.sites):
            figures[unit.name] = figure(graph)
    return figures
