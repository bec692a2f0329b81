"""What ONNX Runtime's integer kernels give for a converted graph, to the bit.

A converted graph computes in floats what stands between two roundings. The runtime sums integers, multiplies
the sum by one float and rounds: now and then a value that lies between two integers goes the other way. Layer
by layer one such step becomes many, as with any disturbance of a network that rounds; where the scores of two
classes are near, another one wins. So a file is held against the graph with the runtime's own arithmetic, and
what is left is a mistake in the file. That the graph in floats is the trained model is proven before.

Written after the kernels' behaviour (tests compare): convolutions and linears round
sum * (s_x * s_w / s_y), additions s_a/s_c * a + (s_b/s_c * b + offset) with fused products.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from mcomp.model.graph import attribute
from mcomp.model.recapture import copied
from mcomp_stages.methods.quantization.kinds import CONVOLUTIONS, bounds, is_zero_pad

aten, mcomp = torch.ops.aten, torch.ops.mcomp
QUANTIZE = mcomp.quantize_linear.default
SUMS = (*CONVOLUTIONS, aten.linear.default)
ADDITIONS = (aten.add.Tensor, aten.add_.Tensor)
BYTES = (torch.uint8, torch.int8)
EXACT_IN_FLOAT32 = 2**24


class Grid(NamedTuple):
    """What an operator of a pair reads, and its scale and zero point."""

    source: Node
    scale: Tensor
    zero_point: Tensor


class RoundedSum(nn.Module):
    """A convolution or linear from integers to integers, behind zeros around its input if there is a pad."""

    def __init__(
        self, layer: Node, pad: Node | None, weight: Tensor, bias: Tensor, grids: list[Grid]
    ) -> None:
        super().__init__()
        x, weights, y = grids
        self.call, self.options, self.pad = layer.target, layer.args[3:], pad
        largest = 255 * weight.double().abs().flatten(1).sum(1) + bias.double().abs()
        exact = torch.float32 if largest.max() < EXACT_IN_FLOAT32 else torch.float64
        self.weight, self.bias, self.zeros = weight.to(exact), bias.to(exact), x.zero_point.to(exact)
        channels = (-1,) if layer.target is aten.linear.default else (-1, *[1] * (weight.ndim - 2))
        self.factor = (x.scale * weights.scale / y.scale).reshape(channels)
        self.zero_point = y.zero_point

    def forward(self, x: Tensor) -> Tensor:
        """Return the integers behind the layer for those in front of it."""
        centred: Any = x.to(self.weight.dtype) - self.zeros
        if self.pad is not None:
            centred = self.pad.target(centred, *self.pad.args[1:])  # type: ignore[operator]
        sums = self.call(centred, self.weight, self.bias, *self.options)  # type: ignore[operator]
        return saturated(torch.round(sums.float() * self.factor), self.zero_point)


class RoundedAddition(nn.Module):
    """An addition from integers to integers."""

    def __init__(self, left: Grid, right: Grid, y: Grid) -> None:
        super().__init__()
        self.left, self.right, self.zero_point = left.scale / y.scale, right.scale / y.scale, y.zero_point
        # Here too a product is fused with a sum: the kernel's compiler does it, and only for the left one.
        zero = (self.right * right.zero_point.float()).double()
        zeros = (self.left.double() * left.zero_point.double() + zero).float()
        self.offset = y.zero_point.float() - zeros

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the integers of the sum. A product is fused with a sum: rounded once, here from float64."""
        inner = (right.double() * self.right.double() + self.offset.double()).float()
        total = (left.double() * self.left.double() + inner.double()).float()
        return saturated(torch.round(total) - self.zero_point.float(), self.zero_point)


def saturated(rounded: Tensor, zero_point: Tensor) -> Tensor:
    """Return whole numbers, counted from the zero point, as integers of its type."""
    limits = torch.iinfo(zero_point.dtype)
    return (rounded + zero_point.float()).clamp(limits.min, limits.max).to(zero_point.dtype)


def with_integer_sums(served: GraphModule) -> GraphModule:
    """Return a copy of a converted graph that rounds as ONNX Runtime does.

    What the runtime has no such kernel for stays as it is.
    """
    rounding = GraphModule(served, copied(served.graph))
    for number, node in enumerate(rounding.graph.find_nodes(op="call_function", target=QUANTIZE)):
        found = rounded_layer(rounding, node) or rounded_addition(rounding, node)
        if found is not None:
            part, inputs = found
            rounding.add_submodule(f"integers_{number}", part)
            with rounding.graph.inserting_before(node):
                call = rounding.graph.call_module(f"integers_{number}", inputs)
            node.replace_all_uses_with(call)
    rounding.graph.eliminate_dead_code()
    return GraphModule(rounding, rounding.graph).eval()


def rounded_layer(graph_module: GraphModule, node: Node) -> tuple[nn.Module, tuple[Node, ...]] | None:
    """Return a layer whose outputs `node` rounds, and the integers that it reads; None if it is none."""
    y, layer = grid_of(graph_module, node), unclipped(graph_module, node)
    if layer.target not in SUMS or len(layer.args) < 3 or layer.args[2] is None:
        return None
    before, *read = layer.args[:3]
    assert isinstance(before, Node)
    pad = before if is_zero_pad(before) else None
    x, *stored = (read_from(graph_module, each) for each in (pad.args[0] if pad else before, *read))
    if x is None or None in stored or any(part.zero_point.dtype not in BYTES for part in (x, y)):
        return None
    weights, biases = (part for part in stored if part is not None)
    if weights.scale.ndim > 1:  # a scale for each block
        return None
    weight, bias = (attribute(graph_module, str(part.source.target)) for part in (weights, biases))
    return RoundedSum(layer, pad, weight, bias, [x, weights, y]), (x.source,)


def rounded_addition(graph_module: GraphModule, node: Node) -> tuple[nn.Module, tuple[Node, ...]] | None:
    """Return an addition that `node` rounds, and the integers that it reads; None if it is none."""
    y, addition = grid_of(graph_module, node), unclipped(graph_module, node)
    if addition.target not in ADDITIONS or addition.kwargs:
        return None
    left, right = (read_from(graph_module, part) for part in addition.args)
    if left is None or right is None:
        return None
    if any(part.zero_point.dtype not in BYTES for part in (left, right, y)):
        return None
    return RoundedAddition(left, right, y), (left.source, right.source)


def unclipped(graph_module: GraphModule, node: Node) -> Node:
    """Return what is rounded, in front of an activation that clips no more than the grid does."""
    value, y = node.args[0], grid_of(graph_module, node)
    assert isinstance(value, Node)
    clipped = bounds(value)
    if clipped is None or y.scale.numel() > 1:
        return value
    limits = torch.iinfo(y.zero_point.dtype)
    low, high = (end / y.scale.item() + y.zero_point.item() for end in clipped)
    source = value.args[0]
    assert isinstance(source, Node)
    return source if low <= limits.min and high >= limits.max - 0.5 else value


def read_from(graph_module: GraphModule, value: Any) -> Grid | None:
    """Return the grid of the integers that a value stands for, None if it is float."""
    is_pair = isinstance(value, Node) and value.target is mcomp.dequantize_linear.default
    return grid_of(graph_module, value) if is_pair else None


def grid_of(graph_module: GraphModule, call: Node) -> Grid:
    source, scale, zero_point = call.args[:3]
    assert isinstance(source, Node)
    held = (attribute(graph_module, str(part.target)) for part in (scale, zero_point))  # type: ignore[union-attr]
    return Grid(source, *held)
