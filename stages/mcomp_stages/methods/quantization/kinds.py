"""Operators by what they are to placement: layers, joints, what passes a grid on, what stays in float."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch.fx import Node

from mcomp_stages.methods.quantization.canonical import DROPOUTS, is_global_pool

aten = torch.ops.aten

LayerKind = Literal["convolution", "transposed convolution", "linear"]
JointKind = Literal["addition", "product", "concatenation", "average pooling"]

CONVOLUTIONS = (
    aten.conv1d.default,
    aten.conv1d.padding,
    aten.conv2d.default,
    aten.conv2d.padding,
    aten.conv3d.default,
    aten.conv3d.padding,
)
TRANSPOSED = (aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)
LAYERS: dict[Any, LayerKind] = {
    **dict.fromkeys(CONVOLUTIONS, "convolution"),
    **dict.fromkeys(TRANSPOSED, "transposed convolution"),
    aten.linear.default: "linear",
}
NORMS = (aten.batch_norm.default,)
ACTIVATIONS = (
    aten.relu.default,
    aten.relu_.default,
    aten.relu6.default,
    aten.relu6_.default,
    aten.hardtanh.default,
    aten.hardtanh_.default,
)
JOINTS: dict[Any, JointKind] = {
    aten.add.Tensor: "addition",
    aten.add_.Tensor: "addition",
    aten.mul.Tensor: "product",
    aten.mul_.Tensor: "product",
    aten.cat.default: "concatenation",
    aten.avg_pool1d.default: "average pooling",
    aten.avg_pool2d.default: "average pooling",
}
# Computed in float between two grids; runtimes have no integers for most of them.
POINTWISE = (
    aten.sigmoid.default,
    aten.sigmoid_.default,
    aten.hardsigmoid.default,
    aten.hardsigmoid_.default,
    aten.hardswish.default,
    aten.hardswish_.default,
    aten.silu.default,
    aten.silu_.default,
    aten.gelu.default,
    aten.tanh.default,
    aten.leaky_relu.default,
    aten.leaky_relu_.default,
    aten.elu.default,
    aten.upsample_bilinear2d.vec,
    aten.upsample_bicubic2d.vec,
    aten.upsample_linear1d.vec,
)
RESIZES = (
    aten.upsample_nearest1d.vec,
    aten.upsample_nearest2d.vec,
    aten.upsample_nearest3d.vec,
)
PADS = (aten.pad.default, aten.constant_pad_nd.default)
PASSING = (
    aten.max_pool2d.default,
    aten.flatten.using_ints,
    aten.view.default,
    aten.reshape.default,
    aten.unflatten.int,
    aten.permute.default,
    aten.transpose.int,
    aten.slice.Tensor,
    aten.unsqueeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.contiguous.default,
    aten.clone.default,
    *RESIZES,
)


def is_table(node: Node) -> bool:
    """Whether a call looks up rows of a parameter that nothing but lookups read."""
    if node.target is not aten.embedding.default:
        return False
    weight = node.args[0]
    assert isinstance(weight, Node)
    return weight.op == "get_attr" and all(user.target is node.target for user in weight.users)


def joint_kind(node: Node) -> JointKind | None:
    """Return which joint a call is, None if it is none: a number is no operand of one."""
    if is_global_pool(node):
        return "average pooling"
    kind = JOINTS.get(node.target)
    if kind in ("addition", "product"):
        both = all(isinstance(value, Node) for value in node.args) and len(node.args) == 2
        return kind if both and not node.kwargs else None
    return kind


def passes(node: Node) -> bool:
    """Whether the output of a call lies on the grid of its input."""
    return node.target in PASSING + DROPOUTS or is_zero_pad(node) or copies_its_edge(node)


def is_zero_pad(node: Node) -> bool:
    """Whether a call pads with zeros, which every grid contains."""
    if node.target not in PADS:
        return False
    mode = node.args[2:3] if node.target is aten.pad.default else ()
    value = node.args[3:4] if node.target is aten.pad.default else node.args[2:3]
    return mode in ((), ("constant",)) and value in ((), (None,), (0,))


def copies_its_edge(node: Node) -> bool:
    """Whether a call pads with values of the image itself."""
    return node.target is aten.pad.default and node.args[2:3] in (("reflect",), ("replicate",))


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
