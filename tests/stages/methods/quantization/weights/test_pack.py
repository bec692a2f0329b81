"""Codes in bytes: the bits are one stream, and come back as they went in."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.weights.pack import packed, unpacked


@st.composite
def rows_of_codes(draw: st.DrawFn) -> tuple[list[int], int]:
    bits = draw(st.integers(2, 8))
    return draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=30)), bits


def slow_bytes(codes: list[int], bits: int) -> list[int]:
    """Take the row for one large number."""
    number = sum(code << (place * bits) for place, code in enumerate(codes))
    return list(number.to_bytes(-(-len(codes) * bits // 8), "little"))


@given(row=rows_of_codes())
def test_a_row_is_one_stream_of_bits(row: tuple[list[int], int]) -> None:
    codes, bits = row
    assert packed(torch.tensor([codes], dtype=torch.uint8), bits)[0].tolist() == slow_bytes(codes, bits)


@given(row=rows_of_codes(), repeats=st.integers(1, 3))
def test_codes_come_back(row: tuple[list[int], int], repeats: int) -> None:
    codes, bits = row
    matrix = torch.tensor([codes] * repeats, dtype=torch.uint8)
    assert torch.equal(unpacked(packed(matrix, bits), bits, len(codes)), matrix)


def test_eight_codes_of_three_bits_are_three_bytes() -> None:
    assert packed(torch.zeros(5, 8, dtype=torch.uint8), 3).shape == (5, 3)


def test_the_lower_half_of_a_byte_comes_first() -> None:
    assert packed(torch.tensor([[1, 2]], dtype=torch.uint8), 4).tolist() == [[0x21]]
