"""Where quantizers stand, so that a runtime runs the whole network in integers.

Rules (found by reading ONNX Runtime's optimised graphs; other placements leave convolutions in float):
- weights of convolutions and linears: int8 per output channel; every input of these: 8 bits per tensor;
- the output of convolution (+ batch norm) (+ ReLU), once, behind the last of them; of a linear only if an
  integer operation reads it: the classifier may give floats;
- inputs and output of additions, products, concatenations and average pooling, if the inputs are integers;
- max-pooling, reshapes, slices, padding and nearest neighbours keep the grid of their input;
- embeddings are kept in bytes, a scale for each row; what is looked up becomes floats;
- what a transformer does between its linears stays in float: attention, residual additions, norms and GELU.
  Their grids cost accuracy, and integers gain no time there. So a linear on more than rows gives floats.
- between two grids every other function of single values may stand: it is computed in float.

Which layers there are is the runtime's to say (`presets`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from torch.fx import Graph, Node

from mcomp.model.graph import module_path
from mcomp_stages.methods.quantization.kinds import (
    ACTIVATIONS,
    LAYERS,
    NORMS,
    POINTWISE,
    RESIZES,
    TRANSPOSED,
    is_table,
    joint_kind,
    passes,
)
from mcomp_stages.methods.quantization.presets import RUNTIMES, Runtime

X86 = RUNTIMES["onnxruntime_x86"]


@dataclass(frozen=True)
class Layer:
    """A layer that becomes integers: its module path, its weight, and the site of its input."""

    path: str
    weight: str
    input: str
    axis: int = 0


@dataclass(frozen=True)
class Placement:
    """The sites of a graph and the layers between them, in its order.

    An activation's site is called by the value its quantizer stands behind (`site_values`), a weight's by the
    parameter. `tables` are embeddings, whose input has no site; `missing` the paths of layers that the
    runtime has no integers for.
    """

    activations: tuple[str, ...]
    layers: tuple[Layer, ...]
    tables: tuple[Layer, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def weights(self) -> tuple[str, ...]:
        """The weights of layers, each once."""
        return tuple(dict.fromkeys(layer.weight for layer in self.layers))


@dataclass
class Search:
    """What the walk over the graph knows: values to quantize, and values that integer operations give."""

    runtime: Runtime
    wanted: set[Node] = field(default_factory=set)
    integer: set[Node] = field(default_factory=set)

    def is_integer(self, values: Iterable[Node]) -> bool:
        return all(value in self.integer or value in self.wanted for value in values)

    def origin(self, value: Any) -> Node:
        """Return the value whose grid this one keeps in the runtime."""
        while passes(value) and (self.runtime.resizes_integers or value.target not in RESIZES):
            value = value.args[0]
        assert isinstance(value, Node)
        return value


def placement(graph: Graph, keep_float: Collection[str] = (), runtime: Runtime = X86) -> Placement:
    """Return the sites of a canonical graph; layers whose module path is in `keep_float` stay in float.

    A weight that serves several layers is quantized in all of them or in none.
    """
    search = Search(runtime)
    layers: list[Node] = []
    tables: list[Layer] = []
    missing: list[str] = []
    for node in graph.nodes:
        if is_layer(node) and not any(module_path(user) in keep_float for user in node.args[1].users):
            if all(LAYERS[user.target] in runtime.layers for user in node.args[1].users):
                layers.append(node)
                place_layer(node, search)
            else:
                missing.append(module_path(node))
        elif is_table(node) and not any(module_path(user) in keep_float for user in node.args[0].users):
            tables.append(Layer(module_path(node), str(node.args[0].target), ""))
        elif joint_kind(node) is not None:
            place_joint(node, search)
        elif node.target in POINTWISE + RESIZES and search.is_integer([search.origin(node.args[0])]):
            search.integer.add(node)
    sites = {node: site for site, node in site_values(graph).items()}
    return Placement(
        activations=tuple(sites[node] for node in graph.nodes if node in search.wanted),
        layers=tuple(
            Layer(
                module_path(node),
                str(node.args[1].target),  # type: ignore[union-attr]
                sites[search.origin(node.args[0])],
                weight_axis(node),
            )
            for node in layers
        ),
        tables=tuple(tables),
        missing=tuple(missing),
    )


def is_layer(node: Node) -> bool:
    """Whether a call is a convolution or a linear whose weight is a parameter of such alone."""
    if node.target not in LAYERS:
        return False
    weight = node.args[1]
    assert isinstance(weight, Node)
    if weight.op != "get_attr" or not all(user.target in LAYERS for user in weight.users):
        return False
    # The channels of a transposed convolution in groups lie on no axis of its weight.
    axes = {weight_axis(user) for user in weight.users}
    return len(axes) == 1 and not (node.target in TRANSPOSED and groups_of(node) > 1)


def weight_axis(layer: Node) -> int:
    """Return the axis of a weight that its output channels lie on."""
    return 1 if layer.target in TRANSPOSED else 0


def groups_of(transposed: Node) -> int:
    """Return the groups of a transposed convolution."""
    groups = transposed.args[6] if len(transposed.args) > 6 else 1
    assert isinstance(groups, int)
    return groups


def gives_rows(layer: Node) -> bool:
    """Whether a layer's output is an image, or one row for each sample."""
    return LAYERS[layer.target] != "linear" or layer.meta["val"].ndim == 2


def place_layer(node: Node, search: Search) -> None:
    search.wanted.add(search.origin(node.args[0]))
    end = fused_end(node)
    if gives_rows(node):
        search.integer.add(end)
    if LAYERS[node.target] != "linear":
        search.wanted.add(end)


def place_joint(node: Node, search: Search) -> None:
    origins = [search.origin(value) for value in node.all_input_nodes]
    if search.is_integer(origins):
        search.wanted.update(origins)
        search.wanted.add(fused_end(node))


def origin(value: Any) -> Node:
    """Return the value whose grid this one keeps: itself, or what stands before shapes, pools and pads."""
    while passes(value):
        value = value.args[0]
    assert isinstance(value, Node)
    return value


def norm_of(layer: Node) -> Node | None:
    """Return the batch norm that follows a layer alone and works on its output channels."""
    return follower(layer, NORMS) if gives_rows(layer) else None


def fused_end(node: Node) -> Node:
    """Return the last call that the runtime fuses with a layer or a joint: norm, then activation."""
    end = (norm_of(node) if is_layer(node) else None) or node
    return follower(end, ACTIVATIONS) or end


def follower(node: Node, targets: tuple[Any, ...]) -> Node | None:
    """Return the only user of a value, if it is a call of one of `targets`."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target in targets else None


def site_values(graph: Graph) -> dict[str, Node]:
    """Return every value behind which a quantizer may stand, by the name of its site.

    What a layer or a joint fuses with is called by the layer or the joint: `layer1.0.conv1#conv2d_0` is the
    value behind its norm and activation, and the layer's own output has no site.
    """
    names = site_names(graph)
    ends = {fused_end(node): node for node in graph.nodes if is_layer(node) or joint_kind(node)}
    return {names[ends.get(node, node)]: node for node in graph.nodes if node in names}


def site_names(graph: Graph) -> dict[Node, str]:
    """Name values by module path, operation and ordinal (`layer1.0#add_0`), inputs by their own name."""
    names: dict[Node, str] = {}
    count: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op in ("placeholder", "get_attr"):
            names[node] = f"#{node.target}"
        elif node.op == "call_function":
            operation = getattr(node.target, "__name__", str(node.target)).split(".")[0].rstrip("_")
            prefix = f"{module_path(node)}#{operation}"
            names[node] = f"{prefix}_{count[prefix]}"
            count[prefix] += 1
    return names
