"""Which layers become binary, and what stands around each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor
from torch.fx import Graph

from mcomp.errors import StageError
from mcomp.model.graph import module_path
from mcomp.model.model import Model
from mcomp_stages.methods.quantization.binary.record import BinaryLayer
from mcomp_stages.methods.quantization.binary.rewire import Surroundings
from mcomp_stages.methods.quantization.config import Activations
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.kinds import LAYERS
from mcomp_stages.methods.quantization.learned.config import ActivationMethod, WeightMethod
from mcomp_stages.methods.quantization.placement import Layer, placement
from mcomp_stages.methods.quantization.scheme import inside
from mcomp_stages.methods.quantization.sites import WeightSite
from mcomp_stages.methods.quantization.training_graph import canonical_graph

WIDTH: dict[str, Literal[1, 2]] = {"binary": 1, "ternary": 2}


def chosen_layers(
    model: Model, layers: tuple[Layer, ...], keep_float: tuple[str, ...], first: bool, last: bool
) -> tuple[Layer, ...]:
    """Return the layers to change: all but the first, the last and those that patterns keep.

    Raises StageError if none is left, or a pattern matches none.
    """
    paths = tuple(dict.fromkeys(layer.path for layer in layers))
    kept = {path for pattern in keep_float for path in inside(model.module, paths, pattern)}
    kept |= set() if first else set(paths[:1])
    kept |= set() if last else set(paths[-1:])
    found = tuple(layer for layer in layers if layer.path not in kept)
    if not found:
        raise StageError("no layer is left to be binary; see keep_float, first_layer and last_layer")
    return found


def binary_quantizers(
    model: Model,
    layers: tuple[Layer, ...],
    graph: Graph,
    *,
    weights: Literal["binary", "ternary"],
    activations: Literal[1, 2, 8, 32],
    shortcuts: bool,
    rprelu: bool,
) -> Quantizers:
    """Return the edit that makes layers binary (or ternary). Raises StageError for pruned binary weights."""
    sites: dict[str, WeightSite] = {}
    methods: dict[str, ActivationMethod | WeightMethod] = {}
    for layer in layers:
        if weights == "binary" and f"masks.{layer.weight}" in model.state:
            what = "some of its weights are pruned, and one bit has no zero; take weights: ternary"
            raise StageError(what, module=layer.path)
        sites[layer.weight] = WeightSite(bits=WIDTH[weights], axis=layer.axis)
        methods[layer.weight] = weights
    grids = {}
    if activations in (2, 8):
        grids = {layer.input: Activations.model_validate({"bits": activations}) for layer in layers}
        methods |= dict.fromkeys(grids, "lsq" if activations == 2 else "minmax")
    signs, bent = activations == 1, set[str]()
    around = {layer.path: surroundings(graph, layer.path, signs, shortcuts, rprelu, bent) for layer in layers}
    return Quantizers(activations=grids, weights=sites, methods=methods, binary=around)


def surroundings(
    graph: Graph, path: str, signs: bool, shortcuts: bool, rprelu: bool, bent: set[str]
) -> BinaryLayer:
    """Return what stands around a layer; `bent` are the activations that are taken, and grows."""
    layer = next(node for node in graph.nodes if node.target in LAYERS and module_path(node) == path)
    around = Surroundings.of(layer)
    bends = rprelu and around.activation is not None and around.activation.name not in bent
    if bends and around.activation is not None:
        bent.add(around.activation.name)
    return BinaryLayer(
        signs=int(around.source.meta["val"].shape[1]) if signs else None,
        shortcut=around.shortcut() if shortcuts else "none",
        rprelu=int(around.end.meta["val"].shape[1]) if bends else None,
    )


def quantizable(model: Model, example: Mapping[str, Tensor]) -> tuple[Graph, tuple[Layer, ...]]:
    """Return the graph of a model, and its convolutions and linears in order."""
    graph = canonical_graph(model.module, example).graph
    return graph, placement(graph).layers
