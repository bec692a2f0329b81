"""One form for what PyTorch can write in several ways, so that placement and export meet each once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

import mcomp_stages.methods.quantization.operators  # noqa: F401  registers torch.ops.mcomp
from mcomp.model.graph import rewrite

aten = torch.ops.aten

DROPOUTS = (aten.dropout.default, aten.dropout_.default, aten.feature_dropout.default)


def canonical_pooling(graph_module: GraphModule) -> None:
    """Write every mean over the two spatial axes as `mean.dim(x, [2, 3], keepdim=True)`, in place.

    Global pooling comes as `adaptive_avg_pool2d(1)` or as `mean((2, 3))`; behind one that drops
    the axes follows a flatten. Adaptive pooling into equal windows becomes ordinary pooling, and maxima along
    a line maxima in an image of one row: of these torch has none on integers.
    """
    rewrite(graph_module, pool_as_mean)
    rewrite(graph_module, pool_in_windows)
    rewrite(graph_module, pool_as_image)


def pool_as_mean(node: Node) -> None:
    """Replace a call if it is global pooling in another form."""
    if node.target is aten.adaptive_avg_pool2d.default and node.args[1] in ([1], [1, 1]):
        replace(node, call_before(node, aten.mean.dim, node.args[0], [2, 3], True))
    elif averages_spatial_axes(node) and not is_global_pool(node):
        keeps = len(node.args) > 2 and node.args[2]
        pool = call_before(node, aten.mean.dim, node.args[0], [2, 3], True)
        replace(node, pool if keeps else call_before(node, aten.flatten.using_ints, pool, 1))


def pool_in_windows(node: Node) -> None:
    """Replace adaptive average pooling whose windows are all of one size."""
    if node.target is not aten.adaptive_avg_pool2d.default:
        return
    image, sizes = node.args
    assert isinstance(image, Node)
    assert isinstance(sizes, list)
    places = list(zip(image.meta["val"].shape[2:], sizes, strict=True))
    if all(isinstance(size, int) and size % parts == 0 for size, parts in places):
        window = [size // parts for size, parts in places]
        replace(node, call_before(node, aten.avg_pool2d.default, image, window, window))


def pool_as_image(node: Node) -> None:
    """Replace the maxima along a line."""
    if node.target is not aten.max_pool1d.default:
        return
    line, *window = node.args
    image = call_before(node, aten.unsqueeze.default, line, -2)
    # Kernel, stride, padding and dilation of the row: one place, of which there is no neighbour.
    given: list[Any] = list(window[:4])
    rows = [[one, *sizes] for one, sizes in zip((1, 1, 0, 1), given, strict=False)]
    pool = call_before(node, aten.max_pool2d.default, image, *rows, *window[4:])
    replace(node, call_before(node, aten.squeeze.dim, pool, -2))


def averages_spatial_axes(node: Node) -> bool:
    """Whether a call is a mean over the last two axes of an image batch."""
    if node.target is not aten.mean.dim or node.kwargs.get("dtype") is not None:
        return False
    image, axes = node.args[:2]
    is_image = isinstance(image, Node) and image.meta["val"].ndim == 4
    return is_image and isinstance(axes, list) and sorted(int(axis) % 4 for axis in axes) == [2, 3]


def is_global_pool(node: Node) -> bool:
    """Whether a call is global pooling in the canonical form."""
    return node.target is aten.mean.dim and node.args[1:] == ([2, 3], True)


def lower_pooling(graph: Graph) -> None:
    """Turn global pooling into the operator that has an ONNX twin, in place; it does not train."""
    for node in graph.nodes:
        if is_global_pool(node):
            node.target, node.args = torch.ops.mcomp.global_average_pool.default, node.args[:1]


def call_before(node: Node, target: Callable[..., Any], *args: Any) -> Node:
    """Return a new call in front of `node` that stands for it: same module path, its own value."""
    with node.graph.inserting_before(node):
        call = node.graph.call_function(target, args)
    values = [argument.meta["val"] if isinstance(argument, Node) else argument for argument in args]
    call.meta = {**node.meta, "val": target(*values)}
    return call


def replace(node: Node, other: Node) -> None:
    """Let `other` stand for `node` everywhere, and erase `node`."""
    node.replace_all_uses_with(other)
    node.graph.erase_node(node)


def remove_dropout(graph: Graph) -> None:
    """Drop the dropouts of a graph in inference mode, in place: they do nothing there."""
    for node in list(graph.nodes):
        if node.target in DROPOUTS:
            source = node.args[0]
            assert isinstance(source, Node)
            replace(node, source)


def pure(target: Any) -> Any:
    """Return the operator that gives the same without changing its input, which may be read again."""
    if not isinstance(target, torch._ops.OpOverload) or not target._schema.is_mutable:
        return target
    namespace, _, name = target._schema.name.partition("::")
    return getattr(getattr(getattr(torch.ops, namespace), name.rstrip("_")), target._overloadname)
