"""Which calls of a program are layers, and torch's modules for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mcomp.errors import RecipeError
from mcomp_stages.models.exported_program import Call, Program

Settings = Sequence[Any]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Layer:
    """A module for a call: where it stands, the tensors that are its own, and which argument is its input."""

    path: str
    module: nn.Module
    tensors: frozenset[str]
    input: int


@dataclass(frozen=True)
class Kind:
    """What a call that becomes a module looks like.

    `tensors`: by the name that the module gives them, the places of its tensors among the arguments. `make`
    is given the shapes of those that are there, all arguments and the call, and returns None if it cannot.
    """

    tensors: Mapping[str, int]
    make: Callable[[Shapes, Settings, Call], nn.Module | None]
    input: int = 0


def pair(value: Any, dims: int, default: int) -> Any:
    """Return a setting of a convolution for each of its axes."""
    if value is None:
        return (default,) * dims
    values = [value] if isinstance(value, int) else list(value) if isinstance(value, list | tuple) else value
    return tuple(values) * (dims if len(values) == 1 else 1) if isinstance(values, list) else values


def at(arguments: Settings, place: int, default: Any = None) -> Any:
    """Return an argument, or what it is if it was left out."""
    return arguments[place] if len(arguments) > place else default


CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def convolution(shapes: Shapes, arguments: Settings, call: Call) -> nn.Module:
    """Return conv1d, conv2d or conv3d: (input, weight, bias, stride, padding, dilation, groups)."""
    out_channels, in_channels, *kernel = shapes["weight"]
    dims, groups = len(kernel), at(arguments, 6, 1)
    padding = at(arguments, 4)
    made: nn.Module = CONVOLUTIONS[dims](
        in_channels * groups,
        out_channels,
        tuple(kernel),
        stride=pair(at(arguments, 3), dims, 1),
        padding=padding if isinstance(padding, str) else pair(padding, dims, 0),
        dilation=pair(at(arguments, 5), dims, 1),
        groups=groups,
        bias="bias" in shapes,
    )
    return made


def transposed(shapes: Shapes, arguments: Settings, call: Call) -> nn.Module:
    """Return a transposed one: (input, weight, bias, stride, padding, output_padding, groups, dilation)."""
    in_channels, out_channels, *kernel = shapes["weight"]
    dims, groups = len(kernel), at(arguments, 6, 1)
    made: nn.Module = TRANSPOSED[dims](
        in_channels,
        out_channels * groups,
        tuple(kernel),
        stride=pair(at(arguments, 3), dims, 1),
        padding=pair(at(arguments, 4), dims, 0),
        output_padding=pair(at(arguments, 5), dims, 0),
        groups=groups,
        dilation=pair(at(arguments, 7), dims, 1),
        bias="bias" in shapes,
    )
    return made


def linear(shapes: Shapes, arguments: Settings, call: Call) -> nn.Module:
    """Return linear: (input, weight, bias)."""
    outputs, inputs = shapes["weight"]
    return nn.Linear(inputs, outputs, bias="bias" in shapes)


def batch_norm(shapes: Shapes, arguments: Settings, call: Call) -> nn.Module | None:
    """Return batch_norm: (input, weight, bias, mean, variance, training, momentum, eps, cudnn)."""
    if at(arguments, 5):
        raise RecipeError("the model was exported in training mode: export model.eval()")
    if not {"running_mean", "running_var"} <= shapes.keys() or call.dims not in NORMS:
        return None
    affine = "weight" in shapes
    if affine != ("bias" in shapes):
        return None
    return NORMS[call.dims](
        shapes["running_mean"][0], eps=at(arguments, 7), momentum=at(arguments, 6), affine=affine
    )


def layer_norm(shapes: Shapes, arguments: Settings, call: Call) -> nn.Module | None:
    """Return layer_norm: (input, normalized_shape, weight, bias, eps)."""
    if "weight" not in shapes:
        return None
    return nn.LayerNorm(list(arguments[1]), eps=at(arguments, 4, 1e-5), bias="bias" in shapes)


def group_norm(shapes: Shapes, arguments: Settings, call: Call) -> nn.Module | None:
    """Return group_norm: (input, num_groups, weight, bias, eps)."""
    if not {"weight", "bias"} <= shapes.keys():
        return None
    return nn.GroupNorm(arguments[1], shapes["weight"][0], eps=at(arguments, 4, 1e-5))


def embedding(shapes: Shapes, arguments: Settings, call: Call) -> nn.Module | None:
    """Return embedding: (weight, indices, padding_idx)."""
    rows, width = shapes["weight"]
    padding = at(arguments, 2, -1)
    return nn.Embedding(
        rows, width, padding_idx=padding if isinstance(padding, int) and padding >= 0 else None
    )


def dropout(shapes: Shapes, arguments: Settings, call: Call) -> nn.Module:
    """Return dropout: (input, p, train)."""
    return nn.Dropout(arguments[1])


WEIGHTS = {"weight": 1, "bias": 2}
LAYERS: dict[str, Kind] = {
    **{
        f"aten.conv{dims}d.{kind}": Kind(WEIGHTS, convolution)
        for dims in (1, 2, 3)
        for kind in ("default", "padding")
    },
    "aten.conv_transpose1d.default": Kind(WEIGHTS, transposed),
    "aten.conv_transpose2d.input": Kind(WEIGHTS, transposed),
    "aten.conv_transpose3d.input": Kind(WEIGHTS, transposed),
    "aten.linear.default": Kind(WEIGHTS, linear),
    "aten.batch_norm.default": Kind({**WEIGHTS, "running_mean": 3, "running_var": 4}, batch_norm),
    "aten.layer_norm.default": Kind({"weight": 2, "bias": 3}, layer_norm),
    "aten.group_norm.default": Kind({"weight": 2, "bias": 3}, group_norm),
    "aten.embedding.default": Kind({"weight": 0}, embedding, input=1),
    "aten.dropout.default": Kind({}, dropout),
}
PATH = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
UNUSED = "num_batches_tracked"  # of batch norm: no call reads it


def layer_of(call: Call, program: Program, paths: Mapping[str, str], uses: Mapping[str, int]) -> Layer | None:
    """Return the module for a call, None if it is no layer of its own.

    It is one if its tensors lie below one path, nothing else does, and nothing else reads them.
    """
    kind = LAYERS.get(call.operator)
    if kind is None or call.keywords:
        return None
    own: dict[str, str] = {}
    for name, place in kind.tensors.items():
        said = at(call.arguments, place)
        if said is not None:
            path = paths.get(said.get("of", "") if isinstance(said, dict) else "")
            if path is None or path.rpartition(".")[2] != name or uses[said["of"]] > 1:
                return None
            own[name] = path
    owners = {path.rpartition(".")[0] for path in own.values()} or {call.module}
    if len(owners) != 1 or not (owner := owners.pop()) or not PATH.fullmatch(owner):
        return None
    below = {path for path in program.tensors if path.startswith(f"{owner}.")}
    if below - {f"{owner}.{UNUSED}"} != set(own.values()):
        return None
    shapes = {name: program.tensors[path].shape for name, path in own.items()}
    module = kind.make(shapes, call.arguments, call)
    if module is None:
        return None
    return Layer(owner, module.to(torch.float32), frozenset(below), kind.input)
