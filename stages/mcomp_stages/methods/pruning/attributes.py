"""The numbers that the layers of torch remember about the shapes of their parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from mcomp.model.edits import Attribute
from mcomp_stages.methods.pruning.cut import Cut
from mcomp_stages.methods.pruning.groups import tensor_names

Shape = tuple[int, ...]
Numbers = Mapping[str, int | Shape]


def following_attributes(module: nn.Module, cut: Cut) -> Iterator[Attribute]:
    """Yield the attributes that change with the cut, of every layer that remembers a shape."""
    names = tensor_names(module)
    for path, part in module.named_modules():
        rule = rule_of(part)
        tensor = getattr(part, "weight", None)
        if tensor is None:
            tensor = getattr(part, "running_mean", None)  # a batch norm without scale
        if rule is None or tensor is None:
            continue
        name = names[id(tensor)]
        shape, equal_counts = cut.shape_after(name, tuple(tensor.shape)), name in cut.groups.equal_counts
        for attribute, value in rule(part, shape, equal_counts).items():
            if getattr(part, attribute) != value:
                yield Attribute(module=path, name=attribute, value=value)


def rule_of(part: nn.Module) -> Rule | None:
    """Return how the attributes of a layer follow its weight, or None if its class is not known."""
    kinds = (key for kind in type(part).__mro__ for key in (kind, f"{kind.__module__}.{kind.__qualname__}"))
    return next((ATTRIBUTES[kind] for kind in kinds if kind in ATTRIBUTES), None)


def convolution(part: Any, shape: Shape, equal_counts: bool) -> Numbers:
    """(outputs, inputs of one group, ...); either the groups shrink, or there are fewer of the old size."""
    fewer = part.groups > 1 and not equal_counts
    groups = part.groups * shape[0] // part.out_channels if fewer else part.groups
    return {"out_channels": shape[0], "in_channels": shape[1] * groups, "groups": groups}


def transposed_convolution(part: Any, shape: Shape, equal_counts: bool) -> Numbers:
    """(inputs, outputs of one group, ...)."""
    fewer = part.groups > 1 and not equal_counts
    groups = part.groups * shape[0] // part.in_channels if fewer else part.groups
    return {"in_channels": shape[0], "out_channels": shape[1] * groups, "groups": groups}


def linear(part: Any, shape: Shape, equal_counts: bool) -> Numbers:
    """(outputs, inputs)."""
    return {"out_features": shape[0], "in_features": shape[1]}


def transposed_linear(part: Any, shape: Shape, equal_counts: bool) -> Numbers:
    """(inputs, outputs), as GPT-2 has it."""
    return {"nx": shape[0], "nf": shape[1]}


def embedding(part: Any, shape: Shape, equal_counts: bool) -> Numbers:
    """(rows, width)."""
    return {"embedding_dim": shape[1]}


def batch_norm(part: Any, shape: Shape, equal_counts: bool) -> Numbers:
    """(channels,)."""
    return {"num_features": shape[0]}


def group_norm(part: Any, shape: Shape, equal_counts: bool) -> Numbers:
    """(channels,); every group keeps its size, unless there is only one."""
    num_groups = part.num_groups * shape[0] // part.num_channels if part.num_groups > 1 else 1
    return {"num_channels": shape[0], "num_groups": num_groups}


def layer_norm(part: Any, shape: Shape, equal_counts: bool) -> Numbers:
    """The normalised shape itself."""
    return {"normalized_shape": shape}


def prelu(part: Any, shape: Shape, equal_counts: bool) -> Numbers:
    """(channels,), or one slope for all."""
    return {"num_parameters": shape[0]}


Rule = Callable[[Any, Shape, bool], Numbers]

# By class, or by its full name where the library may not be installed.
ATTRIBUTES: dict[type | str, Rule] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), convolution),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), transposed_convolution),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), batch_norm),
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), batch_norm),
    **dict.fromkeys((nn.LayerNorm, nn.RMSNorm), layer_norm),
    nn.Linear: linear,
    nn.Embedding: embedding,
    nn.GroupNorm: group_norm,
    nn.PReLU: prelu,
    "transformers.pytorch_utils.Conv1D": transposed_linear,
}
