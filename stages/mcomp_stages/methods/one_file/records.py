# O = slices along a weight's first axis, K = its other axes flattened
"""What a file says of each weight that is no plain array in it; `mcomp.model.unpack` says how it is read."""

from __future__ import annotations

from collections.abc import Collection
from math import prod
from typing import Any

import torch
from torch import Tensor

from mcomp.model.checkpoint import STATE_PREFIX, SavedModel
from mcomp.model.edits import State
from mcomp.model.model import Model
from mcomp.model.one_file import Records
from mcomp.model.sparse import BITS, KEPT, MASKS
from mcomp.model.unpack import shape_of_codes
from mcomp_stages.methods.half.edit import HalfWeights
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.packing import first_code
from mcomp_stages.methods.quantization.sites import WeightSite
from mcomp_stages.methods.quantization.weights.edit import StoredWeights
from mcomp_stages.methods.quantization.weights.grid import Width
from mcomp_stages.methods.quantization.weights.pack import packed, unpacked
from mcomp_stages.methods.quantization.weights.record import STEPS_BITS, StoredWeight

Record = dict[str, Any]


def records_of(model: Model, saved: SavedModel, tensors: State) -> Records:
    """Return the records of what `checkpoint.parts` gave, by the parameter's name."""
    records: Records = {}
    for edit in model.edits:
        if isinstance(edit, Quantizers):
            sites = {name: site for name, site in edit.weights.items() if site.packed is not None}
            records |= {name: of_site(name, site, model.state) for name, site in sites.items()}
        elif isinstance(edit, StoredWeights):
            records |= {name: of_stored(name, record) for name, record in edit.weights.items()}
        elif isinstance(edit, HalfWeights):
            records |= {name: {"is": "half", "values": f"{STATE_PREFIX}half.{name}"} for name in edit.weights}
    for name in (name.removeprefix(KEPT) for name in tensors if name.startswith(KEPT)):
        shape = list(model.module.get_parameter(name).shape)
        records[name] = {"is": "kept", "values": KEPT + name, "mask": BITS + MASKS + name, "shape": shape}
    return records | {name: {"is": "tied", "to": source} for name, source in saved.tied.items()}


def of_site(name: str, site: WeightSite, state: State) -> Record:
    """Return the record of a weight that trained on a grid; what is left out is as `unpack` says."""
    prefix = f"{STATE_PREFIX}quantizers.{name}."
    assert site.packed is not None
    return {
        "is": "codes",
        "codes": f"{prefix}codes",
        "bits": site.bits,
        **({"step": 2} if site.bits == 1 else {}),
        "first": 1 if site.bits == 1 else first_code(site),
        "scale": f"{prefix}scale",
        "grid": grid_shape(state[f"quantizers.{name}.scale"], site),
        **({} if site.symmetric else {"zero": f"{prefix}zero_point"}),
        "shape": list(site.packed),
    }


def grid_shape(scale: Tensor, site: WeightSite) -> list[int]:
    """Return the shape in which a scale stands beside its weight."""
    assert site.packed is not None
    shape = [1] * len(site.packed)
    if scale.ndim == len(shape) and scale.ndim > 1:
        return list(scale.shape)
    if scale.ndim:
        shape[site.scale_axis] = len(scale)
    return shape


def of_stored(name: str, record: StoredWeight) -> Record:
    """Return the record of a weight that is kept in few bits without training."""
    prefix = f"{STATE_PREFIX}stored.{name}."
    symmetric = record.symmetric or record.bits == STEPS_BITS
    middle = 0 if record.bits == STEPS_BITS or not symmetric else Width(record.bits).middle
    return {
        "is": "codes",
        "codes": f"{prefix}codes",
        "bits": record.bits,
        "codes_shape": [record.rows, record.columns],
        "first": middle,
        "scale": f"{prefix}scale",
        "grid": [record.rows, -(-record.columns // record.group_size)],
        "repeat": [1, record.group_size],
        **({} if symmetric else {"zero": f"{prefix}zero", "zero_bits": record.bits}),
        **({"gain": f"{prefix}gain"} if record.scaled_inputs else {}),
        **({"transposed": True} if record.transposed else {}),
        "shape": list(record.shape),
    }


def without_zero_codes(
    records: Records, saved: SavedModel, tensors: State, model: Model
) -> tuple[Records, SavedModel, State]:
    """Return all three with a masked weight having the codes that its mask keeps, where that is smaller; else
    it has all codes and no mask.
    """
    new, left, useless = dict(records), dict(tensors), []
    for name, record in records.items():
        mask_name = BITS + MASKS + name
        if record["is"] == "kept" or mask_name not in tensors:
            continue
        mask = model.state[MASKS + name]
        if (
            record["is"] == "codes"
            and is_smaller(record, mask)
            and not model.module.get_parameter(name)[~mask].any()
        ):
            columns = prod(shape_of_codes(record)[1:])
            codes = unpacked(tensors[record["codes"]], record["bits"], columns)
            left[record["codes"]] = packed(codes.reshape(mask.shape)[mask].unsqueeze(0), record["bits"])
            new[name] = {**record, "mask": mask_name}
        else:
            left.pop(mask_name)
            useless.append(name)
    edits = tuple(without_names(edit, useless) for edit in saved.edits)
    return new, saved.model_copy(update={"edits": edits}), left


def without_names(edit: Record, useless: Collection[str]) -> Record:
    """Return an edit as it is saved, masks without those of some weights."""
    if edit["kind"] != "masks":
        return edit
    return {**edit, "names": [name for name in edit["names"] if name not in useless]}


def is_smaller(record: Record, mask: Tensor) -> bool:
    """Whether the codes that a mask keeps take less, with its bits, than all codes."""
    bits: int = record["bits"]
    # One bit has no zero; 16 are no row of bits; a transposed weight has its codes in another order.
    if bits in (1, STEPS_BITS) or "transposed" in record:
        return False
    return int(torch.count_nonzero(mask)) * bits + mask.numel() < mask.numel() * bits


def bytes_by_kind(path_bytes: int, records: Records, tensors: State) -> dict[str, int]:
    """Return the bytes of weights by the bits of a number, of scales, masks, the rest, and the header."""
    count: dict[str, int] = {}
    kinds: dict[str, str] = {}
    for record in records.values():
        if record["is"] == "codes":
            kinds[record["codes"]] = f"{record['bits']} bit"
            kinds |= {record[part]: "scales" for part in ("scale", "zero", "gain") if part in record}
        elif record["is"] == "half":
            kinds[record["values"]] = "16 bit"
    for name, tensor in tensors.items():
        if tensor.ndim:
            kind = kinds.get(name) or ("masks" if name.startswith(BITS) else "rest")
            kind = "32 bit" if kind == "rest" and is_float_weight(name, tensor) else kind
            count[kind] = count.get(kind, 0) + tensor.nbytes
    return {**count, "header": path_bytes - sum(count.values())}


def is_float_weight(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is a weight in float32: it has two axes or more, or is what a mask keeps."""
    return tensor.dtype == torch.float32 and (tensor.ndim > 1 or name.startswith(KEPT))
