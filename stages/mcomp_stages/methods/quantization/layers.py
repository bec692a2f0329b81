# O = output channels
"""The weight and bias of one layer as integers in a graph.

Where the input is on a grid, the runtime multiplies in integers: the weight gets a scale for each channel and
the bias becomes int32. Elsewhere the integers are how the weight is stored, and the product stays in float.
Buffers are called by the weight's module: `fc.weight_integers` with `fc.weight_scale` and
`fc.weight_zero_point`; names like `fc.weight_int4` or `fc.weight_uint2` are what the ONNX file packs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from mcomp.model.graph import attribute
from mcomp_stages.methods.quantization.canonical import replace
from mcomp_stages.methods.quantization.fake_quantize import (
    ActivationQuantizer,
    WeightIntegers,
    WeightQuantizer,
)
from mcomp_stages.methods.quantization.fold import Affine, float_layer, integer_layer, norm_affine
from mcomp_stages.methods.quantization.grid import spread, weight_limits
from mcomp_stages.methods.quantization.placement import norm_of, origin
from mcomp_stages.methods.quantization.sites import WeightSite, multiplies_in_integers

mcomp = torch.ops.mcomp

PACKED_BITS = 4  # the widest integers of which a file keeps several in a byte
WIDENED = "_widened"  # how the name of such a weight goes on where it is multiplied with 8-bit integers


@dataclass(frozen=True)
class Layer:
    """What a layer was trained as: its weight on a grid, its bias, and its batch norm as an affine map."""

    site: WeightSite
    weight: WeightIntegers
    bias: Tensor | None
    affine: Affine | None

    @property
    def steps(self) -> Tensor:
        """The weight in steps from zero, int16."""
        zero_point = self.weight.zero_point.to(torch.int16)
        return self.weight.integers.to(torch.int16) - spread(
            zero_point, self.weight.integers, self.site.scale_axis
        )


def called(graph_module: GraphModule, node: Any) -> nn.Module | None:
    """Return the module that a node calls, or None."""
    is_call = isinstance(node, Node) and node.op == "call_module"
    return graph_module.get_submodule(str(node.target)) if is_call else None


def is_quantized_layer(graph_module: GraphModule, node: Node) -> bool:
    """Whether a call reads a quantized weight."""
    return len(node.args) > 1 and isinstance(called(graph_module, node.args[1]), WeightQuantizer)


def fold_layer(graph_module: GraphModule, node: Node) -> None:
    """Replace a layer's weight, bias and batch norm by integers with their scales."""
    source, quantized = node.args[:2]
    assert isinstance(quantized, Node)
    quantizer, parameter = called(graph_module, quantized), quantized.args[0]
    assert isinstance(quantizer, WeightQuantizer)
    assert isinstance(parameter, Node)
    norm = norm_of(node)
    layer = Layer(
        quantizer.site,
        quantizer.integers(attribute(graph_module, str(parameter.target))),
        tensor(graph_module, node.args[2]) if len(node.args) > 2 else None,
        None if norm is None else affine_of(graph_module, norm),
    )
    prefix = free_prefix(graph_module, str(parameter.target))
    reads = called(graph_module, origin(source))
    biases: Any
    with graph_module.graph.inserting_before(node):
        if isinstance(reads, ActivationQuantizer) and takes_integers(layer.site, reads):
            weights, biases = store_integers(graph_module, prefix, layer, reads.grid()[0])
        else:
            weights, biases = store_floats(graph_module, prefix, layer)
            biases = biases or (node.args[2] if len(node.args) > 2 else None)
    node.args = (source, weights, biases, *node.args[3:])
    if norm is not None:
        replace(norm, node)


def takes_integers(site: WeightSite, reads: ActivationQuantizer) -> bool:
    """Whether a weight is multiplied with the integers that its layer reads."""
    return bool(site.inputs) and multiplies_in_integers(site, reads.settings)


def store_integers(
    graph_module: GraphModule, prefix: str, layer: Layer, input_scale: Tensor
) -> tuple[Node, Node]:
    """Put the operands of a product in integers into the graph: the weight and the bias."""
    site = layer.site
    steps = layer.steps
    scale_O = layer.weight.scale.expand(steps.shape[site.axis])
    folded = integer_layer(steps, scale_O, layer.bias, layer.affine, input_scale, site.axis)
    scale = folded.weight_scale
    if PACKED_BITS < site.bits < 8:  # a byte anyway: around zero, as the kernels run fastest
        weight, zero_point = folded.weight.to(torch.int8), torch.zeros((), dtype=torch.int8)
    else:
        weight, zero_point = on_grid(folded.weight, layer)
    if site.per == "tensor" and (scale == scale[0]).all() and (zero_point == zero_point.flatten()[0]).all():
        scale, zero_point = scale[0], zero_point.flatten()[0]
    kind = stored_type(site, weight) + (WIDENED if site.bits <= PACKED_BITS else "")
    weights = dequantized(graph_module, f"{prefix}weight", kind, weight, scale, zero_point, site.axis)
    no_offset = torch.zeros((), dtype=torch.int32)
    biases = dequantized(graph_module, f"{prefix}bias", "integers", folded.bias, folded.bias_scale, no_offset)
    biases.meta["exact"] = folded.exact_bias
    return weights, biases


def store_floats(graph_module: GraphModule, prefix: str, layer: Layer) -> tuple[Node, Node | None]:
    """Put the operands of a product in float into the graph: the weight, and the bias if it changed."""
    site = layer.site
    folded = float_layer(layer.steps, layer.weight.scale, layer.bias, layer.affine, site.axis)
    integers, zero_point = on_grid(folded.weight, layer)
    parts = (stored_type(site, integers), integers, folded.scale, zero_point, site.scale_axis)
    weights = dequantized(graph_module, f"{prefix}weight", *parts)
    if layer.affine is None:
        return weights, None
    assert folded.bias is not None
    return weights, buffer(graph_module, f"{prefix}bias_folded", folded.bias)


def stored_type(site: WeightSite, integers: Tensor) -> str:
    """Return what the name of a weight's integers ends with: a packed type, if there is one for it."""
    if site.bits > PACKED_BITS:
        return "integers"
    width = 4 if site.bits > 2 else site.bits
    if width == 1 and not bool(integers.all()):
        width = 2  # a channel that batch norm switched off is zero, which one bit is not
    return f"int{width}" if site.symmetric else f"uint{width}"


def on_grid(steps: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
    """Return steps from zero as integers of the layer's grid, with their zero point.

    A channel that a batch norm turned around has its zero point counted from the other end.
    """
    site, zero_point = layer.site, layer.weight.zero_point.to(torch.int16)
    _, highest, dtype = weight_limits(site)
    if layer.affine is not None and not site.symmetric:
        turned = (layer.affine.gain < 0).expand(steps.shape[site.axis])
        turned = spread(turned, zero_point, site.axis) if zero_point.ndim > 1 else turned
        zero_point = torch.where(turned, highest - zero_point, zero_point)
    integers = steps + spread(zero_point, steps, site.scale_axis)
    return integers.to(dtype), zero_point.to(dtype)


def affine_of(graph_module: GraphModule, norm: Node) -> Affine:
    """Return what a call of batch norm does in inference."""
    gamma, beta, mean, variance = (tensor(graph_module, node) for node in norm.args[1:5])
    epsilon = norm.args[7]
    assert mean is not None
    assert variance is not None
    assert isinstance(epsilon, float)
    return norm_affine(gamma, beta, mean, variance, epsilon)


def tensor(graph_module: GraphModule, node: Any) -> Tensor | None:
    """Return the parameter or buffer that a node reads; None stays None."""
    if node is None:
        return None
    value: Tensor = attribute(graph_module, node.target)
    return value


def free_prefix(graph_module: GraphModule, weight: str) -> str:
    """Return what the names of a layer's integers start with: the path of its weight's module and a dot.

    A weight that serves several layers has integers for each; the later ones are numbered.
    """
    owner, dot, _ = weight.rpartition(".")
    taken = {name for name, _ in graph_module.named_buffers()}
    prefixes = (f"{owner}:{number}." if number else f"{owner}{dot}" for number in count())
    return next(prefix for prefix in prefixes if f"{prefix}weight_scale" not in taken)


def buffer(graph_module: GraphModule, path: str, value: Tensor) -> Node:
    """Register a buffer at a dotted path and return a node that reads it."""
    part: nn.Module = graph_module
    *owners, name = path.split(".")
    for owner in owners:
        if not hasattr(part, owner):
            part.add_module(owner, nn.Module())
        part = getattr(part, owner)
    part.register_buffer(name, value)
    return graph_module.graph.get_attr(path)


def dequantized(
    graph_module: GraphModule,
    path: str,
    kind: str,
    integers: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    axis: int = 0,
) -> Node:
    """Store integers and return the node of the numbers they stand for.

    `kind` ends the name of the integers; a single zero point is for all scales.
    """
    parts = {kind: integers, "scale": scale, "zero_point": zero_point.expand_as(scale).clone()}
    nodes = [buffer(graph_module, f"{path}_{part}", value) for part, value in parts.items()]
    return graph_module.graph.call_function(mcomp.dequantize_linear.default, (*nodes, axis))
