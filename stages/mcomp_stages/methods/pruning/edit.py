"""A cut as a replayable edit: kept indices, and the numbers that modules remember about their shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import nn

from mcomp.model.edits import Attribute, KeepChannels, Slice
from mcomp_stages.methods.pruning.cut import Cut
from mcomp_stages.methods.pruning.groups import tensor_names

Shape = tuple[int, ...]
Numbers = Mapping[str, int]


def channel_edit(module: nn.Module, cut: Cut) -> KeepChannels:
    """Return the edit that cuts `module` as chosen."""
    slices = tuple(Slice(name=name, axis=axis, keep=keep) for (name, axis), keep in cut.kept_indices.items())
    return KeepChannels(slices=slices, attributes=tuple(following_attributes(module, cut)))


def following_attributes(module: nn.Module, cut: Cut) -> Iterator[Attribute]:
    """Yield the attributes that change with the cut, of every module that remembers a shape."""
    names = tensor_names(module)
    for path, part in module.named_modules():
        rule = next((ATTRIBUTES[kind] for kind in type(part).__mro__ if kind in ATTRIBUTES), None)
        tensor = getattr(part, "weight", None)
        if tensor is None:
            tensor = getattr(part, "running_mean", None)  # a batch norm without scale
        if rule is None or tensor is None:
            continue
        for name, value in rule(part, cut.shape_after(names[id(tensor)], tuple(tensor.shape))).items():
            if getattr(part, name) != value:
                yield Attribute(module=path, name=name, value=value)


def convolution(part: Any, shape: Shape) -> Numbers:
    """(outputs, inputs of one group, ...); every group keeps its size, so there are fewer groups."""
    groups = part.groups * shape[0] // part.out_channels if part.groups > 1 else 1
    return {"out_channels": shape[0], "in_channels": shape[1] * groups, "groups": groups}


def transposed_convolution(part: Any, shape: Shape) -> Numbers:
    """(inputs, outputs of one group, ...); only those with one group are cut."""
    return {"in_channels": shape[0], "out_channels": shape[1] * part.groups}


def linear(part: Any, shape: Shape) -> Numbers:
    """(outputs, inputs)."""
    return {"out_features": shape[0], "in_features": shape[1]}


def batch_norm(part: Any, shape: Shape) -> Numbers:
    """(channels,)."""
    return {"num_features": shape[0]}


def group_norm(part: Any, shape: Shape) -> Numbers:
    """(channels,); every group keeps its size."""
    return {"num_channels": shape[0], "num_groups": part.num_groups * shape[0] // part.num_channels}


def prelu(part: Any, shape: Shape) -> Numbers:
    """(channels,), or one slope for all."""
    return {"num_parameters": shape[0]}


ATTRIBUTES: dict[type, Callable[[Any, Shape], Numbers]] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), convolution),
    **dict.fromkeys((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), transposed_convolution),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), batch_norm),
    nn.Linear: linear,
    nn.GroupNorm: group_norm,
    nn.PReLU: prelu,
}
