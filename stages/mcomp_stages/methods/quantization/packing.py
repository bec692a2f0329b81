# O = slices along a weight's first axis, K = its other axes flattened, P = bytes
"""Weights that are kept as integers of their own width instead of as floats, and come back the same.

After training, a weight counts only as what it is rounded to. `with_packed_weights` puts these numbers in its
place and keeps their codes in the state as `quantizers.<weight>.codes` (O, P), packed as in `weights.pack`,
beside the scale and zero point; a checkpoint holds these alone. Training may go on: from the rounded weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from mcomp.model.model import Model
from mcomp_stages.methods.quantization.fake_quantize import WeightIntegers
from mcomp_stages.methods.quantization.grid import spread
from mcomp_stages.methods.quantization.sites import WeightSite
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph
from mcomp_stages.methods.quantization.weights.pack import num_bytes, packed, unpacked

WIDEST_PACKED = 7  # at 8 bits the float weights stay, to train on


def with_packed_weights(model: Model, example: Mapping[str, Tensor], widest: int = WIDEST_PACKED) -> Model:
    """Return a model whose weights of up to `widest` bits are what they are rounded to, kept as codes.

    What it computes is the same. Grids that followed a weight are stored now. A weight under several names
    stays as it is.
    """
    from mcomp_stages.methods.quantization.edit import Quantizers  # which reads this module in turn

    result, edit = model.copy(), model.edits[-1]
    assert isinstance(edit, Quantizers)
    graph = result.training_module(example)
    assert isinstance(graph, QuantizedGraph)
    own = dict(result.module.named_parameters(remove_duplicate=False))
    once = [name for name, each in own.items() if sum(each is other for other in own.values()) == 1]
    chosen = [name for name, site in edit.weights.items() if site.bits <= widest and name in once]
    sites, methods = dict(edit.weights), dict(edit.methods)
    for name in chosen:
        integers = graph.weight_quantizers()[name].integers(own[name])
        for part, tensor in packed_tensors(integers, sites[name]).items():
            result.state[f"quantizers.{name}.{part}"] = tensor
        sites[name] = sites[name].model_copy(update={"packed": tuple(own[name].shape), "scale": "stored"})
        if methods.get(name) not in ("lsq", "binary"):
            methods.pop(name, None)
    new = edit.model_copy(update={"weights": sites, "methods": methods})
    return replace(result, edits=(*model.edits[:-1], new)).with_values()


def packed_tensors(integers: WeightIntegers, site: WeightSite) -> dict[str, Tensor]:
    """Return what is kept of a weight in integers."""
    codes = codes_of(integers.integers, site)
    return {
        "codes": packed(codes.flatten(1), site.bits),
        "scale": integers.scale.detach().clone(),
        "zero_point": integers.zero_point.clone(),
    }


def codes_of(integers: Tensor, site: WeightSite) -> Tensor:
    """Return integers of a grid as numbers from zero, uint8."""
    if site.bits == 1:
        return ((integers.to(torch.int16) + 1) // 2).to(torch.uint8)
    return (integers.to(torch.int16) + first_code(site)).to(torch.uint8)


def first_code(site: WeightSite) -> int:
    """Return the code of a symmetric grid's zero, or zero where integers are codes already."""
    return 2 ** (site.bits - 1) if site.symmetric else 0


def numbers(tensors: Mapping[str, Tensor], site: WeightSite) -> Tensor:
    """Return the weight that the codes stand for, float32."""
    shape = site.packed
    assert shape is not None
    codes = unpacked(tensors["codes"], site.bits, prod(shape[1:])).reshape(shape).to(torch.int16)
    integers = 2 * codes - 1 if site.bits == 1 else codes - first_code(site)
    scale, zero = (spread(tensors[part], integers, site.scale_axis) for part in ("scale", "zero_point"))
    return (integers - zero.to(torch.int16)) * scale


def fresh_codes(site: WeightSite) -> Tensor:
    """Return codes of the right shape, for a weight that is still to be filled in."""
    assert site.packed is not None
    return torch.zeros(site.packed[0], num_bytes(prod(site.packed[1:]), site.bits), dtype=torch.uint8)
