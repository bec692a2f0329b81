"""How far the grid of a weight reaches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.fake_quantize import WeightQuantizer
from mcomp_stages.methods.quantization.post_training.weight_ranges import (
    SHARES,
    WEIGHT_RANGES,
    extremes,
    least_squares,
    rounded,
    set_weight_ranges,
    squared_error,
    with_stored_scales,
)
from mcomp_stages.methods.quantization.scheme import quantizers_for
from mcomp_stages.methods.quantization.sites import WeightSite
from tests.stages.methods.quantization.nets import ResidualNet, float_model, pictures

SITES = [
    WeightSite(bits=bits, symmetric=symmetric, **per)
    for bits in (2, 4, 8)
    for symmetric in (True, False)
    for per in ({"per": "tensor"}, {"per": "channel"}, {"per": "group", "group_size": 4})
]


def weight(seed: int, rows: int = 3) -> Tensor:
    """Numbers with a few outliers."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 8, generator=draw) ** 3


def slow_error(row: list[float], share: float, site: WeightSite) -> float:
    """Return the squared error of numbers that share a scale, written out for symmetric grids."""
    highest = 2 ** (site.bits - 1) - 1
    scale = max(max(map(abs, row)) * share / highest, 1e-12)
    return sum((max(-highest, min(highest, round(x / scale))) * scale - x) ** 2 for x in row)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), bits=st.sampled_from([2, 3, 4]))
def test_no_share_of_the_range_rounds_a_channel_better(seed: int, bits: int) -> None:
    site, tensor = WeightSite(bits=bits), weight(seed)
    found = squared_error(tensor, least_squares(tensor, site), site)
    for row, error in zip(tensor.double().tolist(), found.tolist(), strict=True):
        best = min(slow_error(row, share, site) for share in SHARES)
        assert error == pytest.approx(best, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("site", SITES, ids=str)
@pytest.mark.parametrize("kind", WEIGHT_RANGES)
def test_grids_have_the_shapes_and_give_the_numbers_of_the_quantizer(kind: str, site: WeightSite) -> None:
    tensor = weight(0)
    scale, zero_point = WEIGHT_RANGES[kind](tensor, site)
    stored = site.model_copy(update={"scale": "stored"})
    quantizer = WeightQuantizer(stored, {"scale": scale, "zero_point": zero_point})
    assert torch.equal(quantizer(tensor), rounded(tensor, (scale, zero_point), site))
    assert scale.shape == extremes(tensor, site)[0].shape
    assert len(rounded(tensor, (scale, zero_point), site)[0].unique()) <= 2**site.bits


@pytest.mark.parametrize("site", SITES, ids=str)
def test_the_error_is_never_larger_than_over_the_whole_range(site: WeightSite) -> None:
    for seed in range(5):
        tensor = weight(seed)
        whole, found = (
            squared_error(tensor, WEIGHT_RANGES[kind](tensor, site), site) for kind in WEIGHT_RANGES
        )
        assert (found <= whole).all()


def test_a_channel_of_zeros_stays_zero() -> None:
    tensor = torch.zeros(2, 8)
    site = WeightSite(bits=4)
    assert not rounded(tensor, least_squares(tensor, site), site).any()


def test_ranges_of_a_model_are_stored_beside_it() -> None:
    model = float_model(ResidualNet)
    edit = with_stored_scales(quantizers_for(model.module, pictures(2)))
    edited = model.edited(edit)
    set_weight_ranges(edited, edit, "least_squares")
    assert isinstance(edited.edits[-1], Quantizers)
    for name, site in edit.weights.items():
        expected = least_squares(model.module.get_parameter(name).detach(), site)
        assert torch.equal(edited.state[f"quantizers.{name}.scale"], expected[0])
