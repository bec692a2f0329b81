# O = output channels, I = input channels
"""Which layers can be a sequence of thin ones, and what these are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

Layer: TypeAlias = nn.Linear | nn.Conv2d

# Their own code reads the weights of their parts beside calling them.
READ_WEIGHTS = (nn.TransformerEncoderLayer, nn.MultiheadAttention)


def refusal(module: nn.Module, state: Mapping[str, Tensor], path: str) -> str:
    """Return why a module cannot be replaced by thin layers, in words that go on after its path, or ""."""
    layer = module.get_submodule(path)
    if type(layer) is not nn.Linear and type(layer) is not nn.Conv2d:
        return f"is a {type(layer).__name__}, not a linear or a convolution"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return "is a grouped convolution: its groups do not meet"
    if f"masks.{path}.weight" in state:
        return "has masked weights, which a product would fill: put prune.lowrank in front of what set them"
    if isinstance(module.get_submodule(path.rpartition(".")[0]), READ_WEIGHTS):
        return "has weights that the module around it reads on its own"
    if num_names(module, module.get_parameter(f"{path}.weight")) > 1:
        return "shares its weight with another layer"
    return ""


def num_names(module: nn.Module, weight: Tensor) -> int:
    """Return under how many names a parameter is known."""
    return sum(each is weight for _, each in module.named_parameters(remove_duplicate=False))


def is_matrix(layer: nn.Module) -> bool:
    """Return whether a layer's weight is one matrix: a linear, or a convolution of single pixels."""
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1))


def full_ranks(layer: nn.Module) -> tuple[int, ...]:
    """Return the largest ranks that a layer may have."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    outputs, inputs = layer.weight.shape[:2]
    return (min(outputs, inputs),) if is_matrix(layer) else (inputs, outputs)


def thin_layers(layer: nn.Module, ranks: Sequence[int]) -> nn.Sequential:
    """Return the thin layers of the given ranks, on the same device, with weights that mean nothing."""
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    make = thin_linears if isinstance(layer, nn.Linear) else thin_convolutions
    thin = nn.Sequential(make(layer, ranks)).to(layer.weight)
    for part in thin.parameters():
        part.requires_grad_(layer.weight.requires_grad)
    return thin.train(layer.training)


def thin_linears(layer: Any, ranks: Sequence[int]) -> OrderedDict[str, nn.Module]:
    """Return two linears."""
    (rank,) = ranks
    return OrderedDict(
        reduce=nn.Linear(layer.in_features, rank, bias=False),
        restore=nn.Linear(rank, layer.out_features, bias=layer.bias is not None),
    )


def thin_convolutions(layer: Any, ranks: Sequence[int]) -> OrderedDict[str, nn.Module]:
    """Return two 1x1 convolutions, or a small convolution between two of them.

    Stride and padding stay where the window is: the convolution before it has no bias, so zeros around its
    inputs are zeros around its outputs.
    """
    inputs, outputs, bias = layer.in_channels, layer.out_channels, layer.bias is not None
    window = {
        name: getattr(layer, name)
        for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    }
    if is_matrix(layer):
        reduce = nn.Conv2d(inputs, ranks[0], bias=False, **window)
        return OrderedDict(reduce=reduce, restore=nn.Conv2d(ranks[0], outputs, 1, bias=bias))
    rank_in, rank_out = ranks
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if rank_in < inputs:
        parts["reduce"] = nn.Conv2d(inputs, rank_in, 1, bias=False)
    parts["core"] = nn.Conv2d(rank_in, rank_out, bias=bias and rank_out == outputs, **window)
    if rank_out < outputs:
        parts["restore"] = nn.Conv2d(rank_out, outputs, 1, bias=bias)
    return parts
