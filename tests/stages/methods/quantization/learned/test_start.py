"""The first scales of weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mcomp_stages.methods.quantization.grid import weight_grid
from mcomp_stages.methods.quantization.learned.start import first_grid
from mcomp_stages.methods.quantization.observers.config import MSE, MinMax, Percentile
from mcomp_stages.methods.quantization.sites import WeightSite


def weight() -> torch.Tensor:
    return torch.randn(6, 8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    "grid",
    [
        {"per": "tensor"},
        {"per": "channel"},
        {"per": "channel", "axis": 1},
        {"per": "group", "group_size": 4},
        {"per": "group", "group_size": 3, "axis": 1},
    ],
)
@pytest.mark.parametrize("symmetric", [True, False])
def test_extremes_give_the_grid_that_follows_the_weight(grid: dict[str, Any], symmetric: bool) -> None:
    site = WeightSite.model_validate({"bits": 4, "symmetric": symmetric, **grid})
    scale, zero_point = first_grid(weight(), site, MinMax())
    expected = weight_grid(weight(), site, site.axis)
    assert torch.allclose(scale, expected[0])
    assert torch.equal(zero_point, expected[1])


def test_without_a_choice_the_steps_are_those_of_lsq() -> None:
    scale, _ = first_grid(weight(), WeightSite(bits=3), None)
    assert torch.allclose(scale, 2 * weight().abs().mean(1) / 3**0.5)


def test_zeros_do_not_make_the_first_step_smaller() -> None:
    sparse = torch.cat([weight(), torch.zeros(6, 72)], dim=1)
    scale, _ = first_grid(sparse, WeightSite(bits=3), None)
    assert torch.allclose(scale, first_grid(weight(), WeightSite(bits=3), None)[0])


def test_every_observer_can_choose() -> None:
    site = WeightSite(bits=2)
    outlier = weight()
    outlier[0, 0] = 40.0
    widest, best, most = (first_grid(outlier, site, each)[0] for each in (MinMax(), MSE(), Percentile()))
    rounded = [(outlier / scale[:, None]).round().clamp(-1, 1) * scale[:, None] for scale in (widest, best)]
    errors = [(each - outlier)[1:].square().sum() for each in rounded]
    assert errors[1] < errors[0]
    assert (most <= widest).all()


def test_a_channel_of_zeros_gets_the_mean_step() -> None:
    dead = weight()
    dead[2] = 0.0
    scale, _ = first_grid(dead, WeightSite(bits=4), None)
    assert scale[2] == pytest.approx(scale[[0, 1, 3, 4, 5]].mean().item())
    nothing, _ = first_grid(torch.zeros(2, 3), WeightSite(bits=4), None)
    assert (nothing > 0).all()
