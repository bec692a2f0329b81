# O = output channels, I = input channels, C = channels between two layers, K = kernel
"""Share out the ranges of channels between a layer and the next, so that none is much larger than another.

Where nothing but a ReLU, a pooling or a zero pad stands between two layers, a channel may be divided by any
positive number if the next layer's weights for it are multiplied by it: the network computes the same. The
number that makes both layers' ranges of the channel equal leaves the most precision to the smallest.

Source: Nagel et al. 2019, arXiv:1906.04721, section 4.1 (equation 11; several layers: repeated).
Differs: batch norm is not folded first: dividing its gain and shift does the same. ReLU6, which does not pass
a factor on, is not replaced by ReLU: what stands before it stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node

from mcomp.errors import StageError
from mcomp.model.graph import attribute, module_path
from mcomp.model.model import Model
from mcomp_stages.methods.quantization.canonical import DROPOUTS, is_global_pool
from mcomp_stages.methods.quantization.kinds import CONVOLUTIONS, TRANSPOSED, is_zero_pad
from mcomp_stages.methods.quantization.placement import is_layer, norm_of
from mcomp_stages.methods.quantization.training_graph import canonical_graph

aten = torch.ops.aten

# f(s x) = s f(x) for each channel and every s > 0.
HOMOGENEOUS = (
    aten.relu.default,
    aten.relu_.default,
    aten.leaky_relu.default,
    aten.leaky_relu_.default,
    aten.max_pool2d.default,
    aten.avg_pool2d.default,
    *DROPOUTS,
)
MOST_ROUNDS = 20
CONVERGED = 1.01  # no factor further from 1 than this
# Of the largest output: what reordered float products may differ by.
LARGEST_ERROR = 1e-3


@dataclass(frozen=True)
class Pair:
    """Two layers with channels between them that can be scaled.

    `scaled` are the names of what the channels are divided in (axis 0): a batch norm's gain and shift, or the
    first layer's weight and bias; `norm` the call of the batch norm; `shared` the name of the second weight.
    """

    first: str
    second: str
    first_weight: str
    norm: Node | None
    scaled: tuple[str, ...]
    shared: str


def equalized(model: Model, example: Mapping[str, Tensor]) -> tuple[Model, dict[str, float]]:
    """Return a copy that computes the same with equalised ranges, and for each pair its largest factor.

    Raises StageError if the copy does not compute the same.
    """
    changed = model.copy()
    pairs = find_pairs(canonical_graph(changed.module, example).graph, changed.module)
    total = {pair: torch.ones(()) for pair in pairs}
    with torch.no_grad():
        for _ in range(MOST_ROUNDS):
            factors = {pair: equalize(changed.module, pair) for pair in pairs}
            total = {pair: total[pair] * factors[pair] for pair in pairs}
            if all(spread(factor) < CONVERGED for factor in factors.values()):
                break
        require_same_outputs(model, changed, example)
    return changed, {f"{pair.first} -> {pair.second}": spread(factor) for pair, factor in total.items()}


def spread(factor_C: Tensor) -> float:
    """Return how far from 1 a factor is at most, up or down."""
    return float(torch.maximum(factor_C, 1 / factor_C).max())


def equalize(module: nn.Module, pair: Pair) -> Tensor:
    """Divide each channel by the factor that makes both ranges equal, in place, and return the factors (C,).

    A channel that one of the layers does not use keeps its range.
    """
    second = attribute(module, pair.shared)
    first_C = channel_range(module, pair)
    second_CK = by_input_channel(second, len(first_C))
    second_C = second_CK.abs().amax(1)
    used = (first_C > 0) & (second_C > 0)
    factor_C = torch.where(used, (first_C / second_C.clamp(min=1e-30)).sqrt(), torch.ones_like(first_C))
    for name in pair.scaled:
        tensor = attribute(module, name)
        tensor.div_(factor_C.reshape(-1, *[1] * (tensor.ndim - 1)))
    second_CK.mul_(factor_C[:, None])
    second.copy_(from_input_channel(second_CK, second))
    return factor_C


def channel_range(module: nn.Module, pair: Pair) -> Tensor:
    """Return the largest absolute weight of each output channel (C,) of the first layer, norm folded in."""
    weight_C: Tensor = attribute(module, pair.first_weight).flatten(1).abs().amax(1)
    if pair.norm is None:
        return weight_C
    gain_C, _, _, variance_C = (attribute(module, str(node.target)) for node in pair.norm.args[1:5])  # type: ignore[union-attr]
    range_C: Tensor = weight_C * gain_C.abs() / (variance_C + pair.norm.args[7]).sqrt()
    return range_C


def by_input_channel(weight: Tensor, num_channels: int) -> Tensor:
    """Return a copy of a weight with a row (C, ...) for each input channel.

    Of a depthwise convolution that is each output channel; of a linear behind a flatten, the columns of all
    places of a channel.
    """
    if weight.shape[1] == 1 and len(weight) == num_channels:
        return weight.flatten(1).clone()
    rows = weight.reshape(len(weight), num_channels, -1)
    return rows.transpose(0, 1).flatten(1).clone()


def from_input_channel(weight_CK: Tensor, like: Tensor) -> Tensor:
    """Return rows of input channels as a weight of the shape of `like`: undo `by_input_channel`."""
    num_channels = len(weight_CK)
    if like.shape[1] == 1 and len(like) == num_channels:
        return weight_CK.reshape(like.shape)
    rows = weight_CK.reshape(num_channels, len(like), -1)
    return rows.transpose(0, 1).reshape(like.shape)


def find_pairs(graph: Graph, module: nn.Module) -> list[Pair]:
    """Return the pairs of layers of a canonical graph, in order; each parameter in them is used once."""
    found = (pair_from(node, module) for node in graph.nodes if is_scalable(node))
    return [pair for pair in found if pair is not None]


def is_scalable(node: Node) -> bool:
    """Whether a call is a layer whose weight has its output channels on axis 0."""
    return is_layer(node) and node.target not in TRANSPOSED


def pair_from(layer: Node, module: nn.Module) -> Pair | None:
    """Return the pair that a layer begins, or None."""
    norm = norm_of(layer)
    offset = norm.args[1:3] if norm else layer.args[2:3]
    scaled = [node for node in ((layer.args[1],) if norm is None else ()) + tuple(offset) if node is not None]
    second = next_layer(norm or layer)
    if second is None or not reads_channels(second, layer, module):
        return None
    weights = [layer.args[1], *scaled, second.args[1]]
    if (norm is not None and len(scaled) < 2) or any(len(node.users) > 1 for node in weights):  # type: ignore[union-attr]
        return None
    return Pair(
        module_path(layer),
        module_path(second),
        str(layer.args[1].target),  # type: ignore[union-attr]
        norm,
        tuple(str(node.target) for node in scaled),  # type: ignore[union-attr]
        str(second.args[1].target),  # type: ignore[union-attr]
    )


def next_layer(node: Node) -> Node | None:
    """Return the layer that alone reads a value, through what passes a channel's factor on; or None."""
    while len(node.users) == 1:
        (node,) = node.users
        if is_layer(node):
            return node if is_scalable(node) else None
        if not passes_factors(node):
            return None
    return None


def passes_factors(node: Node) -> bool:
    """Whether a call gives each channel times any positive factor that it gets it with."""
    if node.target in HOMOGENEOUS or is_global_pool(node):
        return True
    if node.target is aten.flatten.using_ints:
        return node.args[1:] in ((1,), (1, -1))
    pads = node.args[1] if is_zero_pad(node) else None
    return isinstance(pads, list) and len(pads) <= 2 * (node.meta["val"].ndim - 2)  # no channel


def reads_channels(layer: Node, first: Node, module: nn.Module) -> bool:
    """Whether a layer's weight says for each channel of `first` how it is used.

    A convolution with groups must have as many as channels. A linear that is run on images mixes columns.
    """
    if layer.target not in CONVOLUTIONS:
        return first.target not in CONVOLUTIONS or layer.args[0].meta["val"].ndim == 2  # type: ignore[union-attr]
    groups = layer.args[6] if len(layer.args) > 6 else 1
    weight: Tensor = attribute(module, str(layer.args[1].target))  # type: ignore[union-attr]
    return bool(groups == 1 or (groups == len(weight) and weight.shape[1] == 1))


def require_same_outputs(model: Model, changed: Model, example: Mapping[str, Tensor]) -> None:
    """Raise StageError if two float models differ by more than the rounding of float32 on some inputs."""
    before, after = (each.module.eval()(**example) for each in (model, changed))
    error = (after - before).abs().max() / before.abs().max().clamp(min=1e-12)
    if not error <= LARGEST_ERROR:
        raise StageError(f"equalised, the float model's output differs by {float(error):.2%} of its size")
