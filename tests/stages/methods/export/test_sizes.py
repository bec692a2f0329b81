from __future__ import annotations

import pytest
import torch

from mcomp.data.contract import VaryingSize
from mcomp.errors import StageError
from mcomp.model.example import Example, dynamic_shapes
from mcomp_stages.methods.export.sizes import free_sizes, with_fixed

LENGTH = {"ids": {1: VaryingSize("sequence", 16)}}


def example() -> Example:
    return Example({"ids": torch.arange(6).reshape(2, 3)}, LENGTH)


def test_nothing_fixed_leaves_all_free() -> None:
    left = with_fixed(example(), {})
    assert free_sizes(left) == ["batch", "sequence"]
    assert set(dynamic_shapes(left)["ids"]) == {0, 1}


def test_fixed_sizes_are_those_of_the_inputs_and_vary_no_more() -> None:
    fixed = with_fixed(example(), {"batch": 1, "sequence": 5})
    assert fixed["ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert free_sizes(fixed) == []
    assert dynamic_shapes(fixed) == {"ids": {}}
    assert free_sizes(with_fixed(example(), {"sequence": 3})) == ["batch"]


def test_a_size_that_there_is_not_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(StageError, match=r"'lenght'; it must be one of 'batch', 'sequence'"):
        with_fixed(example(), {"lenght": 5})
    with pytest.raises(StageError, match="sequence is at most 16 in the data, not 17"):
        with_fixed(example(), {"sequence": 17})
