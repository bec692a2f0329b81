# P = bytes of a row, K = its numbers, G = its groups, B = bytes of a group, N = outputs of a linear
"""Weights in few bits as operators of torch; `mcomp_stages.methods.onnx.weights` exports them.

`unpack_rows` gives the numbers of any rows of a stored weight: of all of them for a layer, of those that were
looked up for an embedding. `matmul_nbits` is ONNX Runtime's MatMulNBits, which unpacks inside the product.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mcomp_stages.methods.quantization.weights.pack import unpacked


@torch.library.custom_op("mcomp::unpack_rows", mutates_args=())
def unpack_rows(
    codes: Tensor, scale: Tensor, zero: Tensor | None, bits: int, group_size: int, num_columns: int
) -> Tensor:
    """Return rows of a stored weight as float32 (..., K).

    `codes` (..., P) are bytes that hold `bits` bits a number, or int16 steps from zero for 16 bits; `scale`
    (..., G) is float16; `zero` holds the codes of the groups' zeros as bytes, or is None if all are in the
    middle.
    """
    columns = torch.arange(num_columns, device=codes.device) // group_size
    scale_K = scale.float()[..., columns]
    if bits == 16:
        return codes.float() * scale_K
    if zero is None:
        zero_K = torch.tensor(float(1 << (bits - 1)), device=codes.device)
    else:
        zero_K = unpacked(zero.flatten(0, -2), bits, scale.shape[-1]).float()
        zero_K = zero_K.reshape(scale.shape)[..., columns]
    numbers = unpacked(codes.flatten(0, -2), bits, num_columns).float()
    return (numbers.reshape(*codes.shape[:-1], num_columns) - zero_K) * scale_K


@unpack_rows.register_fake
def _(
    codes: Tensor, scale: Tensor, zero: Tensor | None, bits: int, group_size: int, num_columns: int
) -> Tensor:
    return codes.new_empty((*codes.shape[:-1], num_columns), dtype=torch.float32)


@torch.library.custom_op("mcomp::matmul_nbits", mutates_args=())
def matmul_nbits(
    x: Tensor, codes: Tensor, scale: Tensor, zero: Tensor | None, bits: int, num_columns: int
) -> Tensor:
    """Return x (..., K) times the transpose of a stored weight (N, K), float32 (..., N).

    `codes` (N, G, B) are the bytes of each group, of which the last may be filled up; `scale` (N, G) is
    float16; `zero` (N, P) as in `unpack_rows`.
    """
    group_size = codes.shape[2] * 8 // bits
    rows: Tensor = unpack_rows(codes.flatten(1), scale, zero, bits, group_size, codes.shape[1] * group_size)
    product: Tensor = x @ rows[:, :num_columns].mT
    return product


@matmul_nbits.register_fake
def _(x: Tensor, codes: Tensor, scale: Tensor, zero: Tensor | None, bits: int, num_columns: int) -> Tensor:
    return x.new_empty((*x.shape[:-1], codes.shape[0]))
