# O = rows, K = codes in a row, P = bytes in a row
"""Codes of 2 to 8 bits packed into bytes, with nothing between them.

A row is one stream of bits, lowest first: code k has bits [k * bits, (k + 1) * bits). For 2, 4 and 8 bits
this is the order of ONNX Runtime's MatMulNBits and of INT4 tensors; 3-bit codes lie across the ends of bytes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def num_bytes(numbers: int, bits: int) -> int:
    """Return the bytes that hold so many codes."""
    return -(-numbers * bits // 8)


def packed(codes_OK: Tensor, bits: int) -> Tensor:
    """Return codes (O, K), uint8 below 2**bits, as bytes (O, P) with P = ceil(K * bits / 8)."""
    stream = bits_of(codes_OK, bits)
    padded = functional.pad(stream, (0, -stream.shape[1] % 8))
    return numbers_of(padded.reshape(len(stream), -1, 8))


def unpacked(bytes_OP: Tensor, bits: int, num_columns: int) -> Tensor:
    """Return the codes (O, K), uint8, of a row's bytes."""
    stream = bits_of(bytes_OP, 8)[:, : num_columns * bits]
    return numbers_of(stream.reshape(len(stream), num_columns, bits))


def bits_of(numbers: Tensor, bits: int) -> Tensor:
    """Return the lowest bits of each number of a row, in one row."""
    places = torch.arange(bits, dtype=torch.uint8, device=numbers.device)
    return ((numbers.unsqueeze(-1) >> places) & 1).flatten(1)


def numbers_of(stream: Tensor) -> Tensor:
    """Return the uint8 numbers whose bits are along the last axis, lowest first."""
    worth = torch.tensor([1 << place for place in range(stream.shape[-1])], dtype=torch.uint8)
    return (stream * worth.to(stream.device)).sum(-1, dtype=torch.uint8)
