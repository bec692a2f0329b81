"""Where quantizers stand, so that ONNX Runtime on x86 runs the whole network in integers.

Rules (found by reading ORT's optimised graphs; other placements leave convolutions in float):
- weights of convolutions and linears: int8 per output channel; every input of these: uint8 per tensor;
- the output of convolution (+ batch norm) (+ ReLU), once, behind the last of them; of a linear only if an
  integer operation reads it: the classifier may give floats;
- inputs and output of residual additions, concatenations and average pooling, if the inputs are integers;
- max-pooling, reshapes, slices and padding keep the grid of their input and get none of their own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.fx import Graph, Node

from mcomp.model.graph import module_path
from mcomp_stages.methods.quantization.canonical import DROPOUTS, is_global_pool

aten = torch.ops.aten

CONVOLUTIONS = (aten.conv2d.default, aten.conv2d.padding)
LAYERS = (*CONVOLUTIONS, aten.linear.default)
NORMS = (aten.batch_norm.default,)
ACTIVATIONS = (
    aten.relu.default,
    aten.relu_.default,
    aten.relu6.default,
    aten.relu6_.default,
    aten.hardtanh.default,
    aten.hardtanh_.default,
)
ADDITIONS = (aten.add.Tensor, aten.add_.Tensor)
PADS = (aten.pad.default, aten.constant_pad_nd.default)
PASSING = (
    aten.max_pool2d.default,
    aten.flatten.using_ints,
    aten.view.default,
    aten.reshape.default,
    aten.permute.default,
    aten.transpose.int,
    aten.slice.Tensor,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.contiguous.default,
    aten.clone.default,
)


@dataclass(frozen=True)
class Layer:
    """A layer that becomes integers: its module path, its weight, and the site of its input."""

    path: str
    weight: str
    input: str


@dataclass(frozen=True)
class Placement:
    """The sites of a graph and the layers between them, in its order.

    An activation's site is called by the value its quantizer stands behind (`site_values`), a weight's by the
    parameter.
    """

    activations: tuple[str, ...]
    layers: tuple[Layer, ...]

    @property
    def weights(self) -> tuple[str, ...]:
        """The weights, each once."""
        return tuple(dict.fromkeys(layer.weight for layer in self.layers))


@dataclass
class Search:
    """What the walk over the graph knows: values to quantize, and values that integer operations give."""

    wanted: set[Node] = field(default_factory=set)
    integer: set[Node] = field(default_factory=set)

    def is_integer(self, values: Iterable[Node]) -> bool:
        return all(value in self.integer or value in self.wanted for value in values)


def placement(graph: Graph, keep_float: Collection[str] = ()) -> Placement:
    """Return the sites of a canonical graph; layers whose module path is in `keep_float` stay in float.

    A weight that serves several layers is quantized in all of them or in none.
    """
    search = Search()
    layers: list[Node] = []
    for node in graph.nodes:
        if is_layer(node) and not any(module_path(user) in keep_float for user in node.args[1].users):
            layers.append(node)
            place_layer(node, search)
        elif is_joint(node):
            place_joint(node, search)
    sites = {node: site for site, node in site_values(graph).items()}
    return Placement(
        activations=tuple(sites[node] for node in graph.nodes if node in search.wanted),
        layers=tuple(
            Layer(module_path(node), str(node.args[1].target), sites[origin(node.args[0])])  # type: ignore[union-attr]
            for node in layers
        ),
    )


def is_layer(node: Node) -> bool:
    """Whether a call is a convolution, or a linear on rows, whose weight is a parameter of such alone."""
    if node.target not in LAYERS:
        return False
    source, weight = node.args[0], node.args[1]
    assert isinstance(source, Node)
    assert isinstance(weight, Node)
    rows = node.target in CONVOLUTIONS or source.meta["val"].ndim == 2
    return rows and weight.op == "get_attr" and all(user.target in LAYERS for user in weight.users)


def place_layer(node: Node, search: Search) -> None:
    search.wanted.add(origin(node.args[0]))
    end = fused_end(node)
    search.integer.add(end)
    if node.target in CONVOLUTIONS:
        search.wanted.add(end)


def is_joint(node: Node) -> bool:
    """Whether a call is an addition of two tensors of one shape, a concatenation or average pooling."""
    if node.target in ADDITIONS:
        return is_residual(node)
    return node.target in (aten.cat.default, aten.avg_pool2d.default) or is_global_pool(node)


def is_residual(node: Node) -> bool:
    left, right = node.args
    if not isinstance(left, Node) or not isinstance(right, Node) or node.kwargs:
        return False
    return bool(left.meta["val"].shape == right.meta["val"].shape)


def place_joint(node: Node, search: Search) -> None:
    origins = [origin(value) for value in node.all_input_nodes]
    if search.is_integer(origins):
        search.wanted.update(origins)
        search.wanted.add(fused_end(node))


def origin(value: Any) -> Node:
    """Return the value whose grid this one keeps: itself, or what stands before shapes, pools and pads."""
    while passes(value):
        value = value.args[0]
    assert isinstance(value, Node)
    return value


def passes(node: Node) -> bool:
    """Whether the output of a call lies on the grid of its input."""
    return node.target in PASSING + DROPOUTS or is_zero_pad(node)


def is_zero_pad(node: Node) -> bool:
    """Whether a call pads with zeros, which every grid contains."""
    if node.target not in PADS:
        return False
    mode = node.args[2:3] if node.target is aten.pad.default else ()
    value = node.args[3:4] if node.target is aten.pad.default else node.args[2:3]
    return mode in ((), ("constant",)) and value in ((), (None,), (0,))


def fused_end(node: Node) -> Node:
    """Return the last call that the runtime fuses with a layer or an addition: norm, then activation."""
    end = node
    if is_layer(node) and follower(end, NORMS) is not None:
        end = follower(end, NORMS) or end
    return follower(end, ACTIVATIONS) or end


def bounds(node: Node) -> tuple[float, float] | None:
    """Return between which values an activation clips, None if a call does something else."""
    if node.target in (aten.relu.default, aten.relu_.default):
        return 0.0, math.inf
    if node.target in (aten.relu6.default, aten.relu6_.default):
        return 0.0, 6.0
    if node.target in (aten.hardtanh.default, aten.hardtanh_.default):
        given = [float(bound) for bound in node.args[1:]]  # type: ignore[arg-type]
        low, high = given + [-1.0, 1.0][len(given) :]
        return low, high
    return None


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
    ends = {fused_end(node): node for node in graph.nodes if is_layer(node) or is_joint(node)}
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
