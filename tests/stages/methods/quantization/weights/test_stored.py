"""Weights as they are kept: the numbers come back to the bit, and bytes are what the bits cost."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp_stages.methods.quantization.weights.grid import extremes
from mcomp_stages.methods.quantization.weights.round_to_nearest import round_to_nearest
from mcomp_stages.methods.quantization.weights.size import bytes_by_width
from mcomp_stages.methods.quantization.weights.stored import (
    fresh_tensors,
    numbers,
    stored_tensors,
    width_of,
)
from tests.stages.methods.quantization.weights.nets import reader, record, stored_model
from tests.stages.methods.quantization.weights.samples import random_weight


@given(
    bits=st.sampled_from([2, 3, 4, 5, 6, 7, 8, 16]),
    group_size=st.sampled_from([None, 4, 7, 64]),
    symmetric=st.booleans(),
    columns=st.integers(1, 30),
    seed=st.integers(0, 1000),
)
def test_numbers_come_back_to_the_bit(
    bits: int, group_size: int | None, symmetric: bool, columns: int, seed: int
) -> None:
    kept = record((3, columns), bits, group_size, symmetric=symmetric or bits == 16)
    integers = round_to_nearest(random_weight(3, columns, seed), width_of(kept), extremes)
    assert torch.equal(numbers(kept, stored_tensors(kept, integers)), integers.numbers())


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("symmetric", [True, False])
def test_fresh_tensors_have_the_shapes_and_types_of_filled_ones(bits: int, symmetric: bool) -> None:
    kept = record((4, 3, 5), bits, 6, symmetric=symmetric or bits == 16, scaled_inputs=True)
    integers = round_to_nearest(random_weight(4, 15, seed=0), width_of(kept), extremes)
    filled, fresh = stored_tensors(kept, integers, torch.ones(15)), fresh_tensors(kept)
    assert filled.keys() == fresh.keys()
    for name, tensor in filled.items():
        assert (tensor.shape, tensor.dtype) == (fresh[name].shape, fresh[name].dtype), name


def test_scaled_inputs_are_part_of_the_numbers() -> None:
    kept, gain = record((2, 8), 8, scaled_inputs=True), torch.arange(1.0, 9.0)
    integers = round_to_nearest(random_weight(2, 8, seed=1), width_of(kept), extremes)
    assert torch.equal(numbers(kept, stored_tensors(kept, integers, gain)), integers.numbers() * gain)


def test_bytes_are_counted_by_width() -> None:
    records = {
        "query.weight": record((20, 20), 4, 10, symmetric=False),
        "embed.weight": record((30, 20), 3),
        "conv.weight": record((20, 10, 3), 16),
    }
    model = stored_model(reader(), records)
    counted = bytes_by_width(model.module, model.state, records)
    floats = 4 * (2 * 20 * 20 + 5 * 20)  # two linears; four biases or norms of 20, and the convolution's bias
    assert counted == {
        "4 bit": 20 * 10,
        "3 bit": 30 * 8,
        "16 bit": 20 * 30 * 2,
        "scales and zeros": 20 * 2 * 2 + 20 * 1 + 30 * 2 + 20 * 2,
        "float": floats,
    }
