"""Masked weights on disk: the same numbers back, few bytes, and nothing that does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from mcomp.errors import CheckpointError
from mcomp.model.checkpoint import WEIGHTS
from mcomp.model.sparse import bits_of, mask_of, with_zeros, without_zeros
from mcomp_stages.methods.sparsity.masks import with_masks
from tests.mcomp.training.setting import small_model

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(torch.Size)


@given(shape=SHAPES, seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_what_is_packed_comes_back(shape: torch.Size, seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(shape, generator=generator) >= share
    weight = torch.randn(shape, generator=generator) * mask
    packed, left = without_zeros({"w": weight, "b": torch.ones(2)}, {"masks.w": mask, "x": torch.ones(1)})
    assert left.keys() == {"x"}
    assert packed["kept:w"].shape == (int(mask.sum()),)
    assert len(packed["bits:masks.w"]) == -(-shape.numel() // 8)
    whole, masks = with_zeros(packed, {"masks.w": torch.ones_like(mask)}, "there")
    assert torch.equal(whole["w"], weight)
    assert torch.equal(masks["masks.w"], mask)
    assert whole.keys() == {"w", "b"}


def test_the_first_number_is_in_the_highest_bit() -> None:
    mask = torch.tensor([True, False, False, False, False, False, False, True, True])
    assert bits_of(mask).tolist() == [0b10000001, 0b10000000]
    assert torch.equal(mask_of(bits_of(mask), mask.shape, "it"), mask)


def test_a_weight_that_is_not_zero_under_its_mask_is_stored_whole() -> None:
    weight, mask = torch.ones(3), torch.tensor([True, False, True])
    packed, _ = without_zeros({"w": weight}, {"masks.w": mask})
    assert torch.equal(packed["w"], weight)
    assert "kept:w" not in packed


def test_a_saved_model_has_the_zeros_of_its_masks_in_few_bytes(tmp_path: Path) -> None:
    from mcomp.model.checkpoint import save_model

    model = small_model()
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[1, 2] = True
    save_model(with_masks(model, {"fc.weight": mask}), tmp_path)
    stored = load_file(tmp_path / WEIGHTS)
    assert stored["kept:fc.weight"].tolist() == [model.module.fc.weight[1, 2].item()]
    assert stored["bits:masks.fc.weight"].tolist() == [0b00000010, 0]


BROKEN = {
    "too few bits": {"bits:masks.w": torch.zeros(0, dtype=torch.uint8)},
    "bits as floats": {"bits:masks.w": torch.zeros(1)},
    "one number too many": {"kept:w": torch.zeros(4)},
    "numbers of another shape": {"kept:w": torch.zeros(3, 1)},
    "numbers without a mask": {"kept:v": torch.zeros(3)},
    "a mask that no edit asks for": {"bits:masks.v": torch.zeros(1, dtype=torch.uint8)},
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_does_not_fit_is_refused(broken: str, tmp_path: Path) -> None:
    state: dict[str, Tensor] = {"masks.w": torch.ones(5, dtype=torch.bool)}
    right = {"bits:masks.w": bits_of(torch.tensor([True, False, True, False, True])), "kept:w": torch.ones(3)}
    save_file({**right, **BROKEN[broken]}, tmp_path / "w")
    with pytest.raises(CheckpointError, match=r"no bits for a mask|does not keep|no edit asks for"):
        with_zeros(load_file(tmp_path / "w"), state, "there")
