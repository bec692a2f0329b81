# O = rows of a weight, K = its columns, G = groups of columns in a row
"""The tensors of a weight that is kept in few bits, and the numbers that come back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.weights.grid import IntegerWeight, Width
from mcomp_stages.methods.quantization.weights.operators import unpack_rows
from mcomp_stages.methods.quantization.weights.pack import num_bytes, packed
from mcomp_stages.methods.quantization.weights.record import STEPS_BITS, StoredWeight


def width_of(record: StoredWeight) -> Width:
    """Return the grid that the codes of a weight are of."""
    return Width(record.bits, record.group_size, record.symmetric)


def fresh_tensors(record: StoredWeight) -> dict[str, Tensor]:
    """Return tensors of the right shapes and types, for a weight that is still to be filled in."""
    rows, columns = record.rows, record.columns
    groups = -(-columns // record.group_size)
    tensors = {"scale": torch.ones(rows, groups, dtype=torch.float16)}
    if record.bits == STEPS_BITS:
        tensors["codes"] = torch.zeros(rows, columns, dtype=torch.int16)
    else:
        tensors["codes"] = torch.zeros(rows, num_bytes(columns, record.bits), dtype=torch.uint8)
    if not record.symmetric:
        tensors["zero"] = torch.zeros(rows, num_bytes(groups, record.bits), dtype=torch.uint8)
    if record.scaled_inputs:
        tensors["gain"] = torch.ones(columns)
    return tensors


def stored_tensors(
    record: StoredWeight, integers: IntegerWeight, gain_K: Tensor | None = None
) -> dict[str, Tensor]:
    """Return what is kept of integers; `gain_K` is what the layer's inputs are multiplied by."""
    tensors = {"scale": integers.grid.scale.half()}
    if record.bits == STEPS_BITS:
        middle = Width(record.bits).middle
        tensors["codes"] = (integers.codes - middle).to(torch.int16)
    else:
        tensors["codes"] = packed(integers.codes, record.bits)
    if not record.symmetric:
        tensors["zero"] = packed(integers.grid.zero.to(torch.uint8), record.bits)
    if gain_K is not None:
        tensors["gain"] = gain_K.float()
    return tensors


def numbers(record: StoredWeight, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the weight with which a layer computes the same on inputs as they are, float32."""
    rows_OK: Tensor = unpack_rows(
        tensors["codes"],
        tensors["scale"],
        tensors.get("zero"),
        record.bits,
        record.group_size,
        record.columns,
    )
    if record.scaled_inputs:
        rows_OK = rows_OK * tensors["gain"]
    return rows_OK.mT.contiguous() if record.transposed else rows_OK.reshape(record.shape)
