# N = samples, C = output channels
"""Give each channel of each layer the mean that it had in float.

Rounding weights and inputs moves the mean of a layer's outputs; the next layers add that up. Layer by layer,
with inputs as the layers before it, already corrected, give them, the difference of the means over the
calibration samples is taken off the bias, or put into the mean of the batch norm behind it.

Source: Nagel et al. 2019, arXiv:1906.04721, section 4.2 and appendix D (empirical correction).
Differs: the inputs are quantized as well, so their part of the shift is corrected too.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.fx import Node

from mcomp.model.graph import attribute, module_path
from mcomp.model.model import Model
from mcomp_stages.methods.quantization.lockstep import Inputs, Lockstep
from mcomp_stages.methods.quantization.placement import norm_of
from mcomp_stages.methods.quantization.segments import quantized_layers
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph


def with_corrected_biases(
    reference: Model, model: Model, example: Inputs, batches: Iterable[Inputs]
) -> tuple[Model, dict[str, float]]:
    """Return a copy of a model with quantizers whose layers have the means of `reference`, the same in float.

    Also returns, for each corrected layer, the largest shift of a channel's mean, in deviations of the
    channel. A linear without bias cannot be corrected and is left out.
    """
    model = model.copy()
    graph, original = model.training_module(example), reference.training_module(example)
    assert isinstance(graph, QuantizedGraph)
    assert isinstance(original, QuantizedGraph)
    walk = Lockstep(original, graph, batches)
    layers = {layer: offset_of(layer) for layer in quantized_layers(graph)}
    shifts: dict[str, float] = {}

    def visit(node: Node) -> None:
        offset = layers.get(node)
        if offset is None:
            return
        shift_C, deviation_C = mean_shift(walk.in_float(node), walk.quantized(node), channel_axis(node))
        name, sign = offset
        attribute(graph, name).add_(sign * shift_C)
        walk.recompute([node])
        shifts[module_path(node)] = float((shift_C.abs() / deviation_C.clamp(min=1e-12)).max())

    walk.walk(visit)
    return model, shifts


def offset_of(layer: Node) -> tuple[str, int] | None:
    """Return the name of what is added to a layer's outputs, and which way: its bias, or the mean that the
    batch norm behind it takes off; None if there is neither, or other layers have the same.
    """
    norm = norm_of(layer)
    for offset, sign in ((layer.args[2:3], -1), (norm.args[3:4] if norm else (), 1)):
        if offset and isinstance(offset[0], Node):
            return (str(offset[0].target), sign) if len(offset[0].users) == 1 else None
    return None


def channel_axis(layer: Node) -> int:
    """Return the axis of a layer's output channels: the second of images, the last of linears."""
    is_linear = layer.target is torch.ops.aten.linear.default
    return layer.meta["val"].ndim - 1 if is_linear else 1


def mean_shift(in_float: list[Tensor], quantized: list[Tensor], axis: int) -> tuple[Tensor, Tensor]:
    """Return how far the mean of each channel (C,) has moved, and the deviation of each in float."""
    before, after = (channels_first(values, axis) for values in (in_float, quantized))
    return after.mean(1) - before.mean(1), before.std(1)


def channels_first(values: list[Tensor], axis: int) -> Tensor:
    """Return batches of outputs as one matrix, a row for each channel."""
    return torch.cat([value.movedim(axis, 0).flatten(1) for value in values], dim=1)
