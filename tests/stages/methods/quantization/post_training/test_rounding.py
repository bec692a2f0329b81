"""Whether a weight goes up or down."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mcomp_stages.methods.quantization.post_training.config import AdaRound
from mcomp_stages.methods.quantization.post_training.rounding import (
    SHARPNESS,
    WARMUP,
    SoftWeight,
    Training,
    sharpness_at,
    shuffled,
    squared_error,
    train_roundings,
)
from tests.mcomp.training.setting import make_context

ENDS = (-7, 7)
SETTINGS = AdaRound(steps=200, batch_size=64, lr=0.05)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def soft(weight: Tensor, mask: Tensor | None = None, scale: float = 0.5) -> SoftWeight:
    return SoftWeight(weight, torch.tensor(scale), torch.zeros((), dtype=torch.int8), ENDS, mask)


def trained(x: Tensor, weight: Tensor, mask: Tensor | None = None) -> tuple[Tensor, float, float]:
    def outputs(positions: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        return x[positions] @ weights["w"].T

    draw_order = torch.Generator().manual_seed(0)
    training = Training({"w": soft(weight, mask)}, outputs, x @ weight.T, SETTINGS, draw_order)
    chosen, nearest, best = train_roundings(training, "rounding", make_context().steps)
    return chosen["w"], nearest, best


def slow_best(x: Tensor, row: Tensor) -> float:
    """Return the least squared error of a row over all ways to round it up or down."""
    ways = itertools.product(*((float(w.floor()), float(w.ceil())) for w in row / 0.5))
    return min(float((x @ (torch.tensor(way) * 0.5 - row)).square().mean()) for way in ways)


def test_few_weights_are_rounded_nearly_as_well_as_by_trying_every_way() -> None:
    mixed = draw(64, 6) @ draw(6, 6, seed=1)  # inputs that go together, so that errors can cancel
    weight = draw(12, 6, seed=2)
    _, nearest, best = trained(mixed, weight)
    least = sum(slow_best(mixed, row) for row in weight) / float((mixed @ weight.T).square().mean()) / 12
    assert least <= best * 1.001
    assert best - least <= 0.25 * (nearest - least)


def test_correlated_inputs_lose_much_less_than_by_rounding_to_nearest() -> None:
    x = draw(256, 4) @ draw(4, 32, seed=1)
    _, nearest, best = trained(x, draw(8, 32, seed=2))
    assert best < 0.3 * nearest


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_every_weight_goes_to_a_neighbour_and_the_error_does_not_grow(seed: int) -> None:
    weight = draw(3, 5, seed=seed)
    chosen, nearest, best = trained(draw(64, 5, seed=seed + 1), weight)
    steps = chosen / 0.5
    assert torch.equal(steps, steps.round())
    inside = weight.abs() <= 3.5
    assert ((chosen - weight).abs()[inside] <= 0.5 + 1e-5).all()
    assert best <= nearest


def test_pruned_weights_stay_zero() -> None:
    mask = torch.arange(32).reshape(2, 16) % 3 > 0
    weight = draw(2, 16) * mask
    x = draw(64, 3) @ draw(3, 16, seed=1)
    chosen, _, best = trained(x, weight, mask)
    assert not chosen[~mask].any()
    assert chosen[mask].any()
    assert best > 0


def test_what_lies_on_the_grid_stays() -> None:
    weight = torch.tensor([[0.5, -1.0, 0.0, 3.5]])
    chosen, nearest, best = trained(draw(16, 4), weight)
    assert torch.equal(chosen, weight)
    assert nearest == best == 0.0


def test_integers_end_where_the_grid_ends() -> None:
    weight = soft(torch.tensor([[10.0, -10.0, 1.2]]))
    assert weight.chosen().tolist() == [[3.5, -3.5, 1.0]]
    assert weight.nearest.tolist() == [[3.5, -3.5, 1.0]]
    assert float(weight()[0, 2].detach()) == pytest.approx(1.2, abs=1e-3)


def test_a_zero_point_moves_the_ends() -> None:
    weight = SoftWeight(torch.tensor([[2.0, -2.0]]), torch.tensor(0.5), torch.tensor(3), (0, 7))
    assert weight.chosen().tolist() == [[2.0, -1.5]]


def test_the_regulariser_is_nothing_where_all_is_decided() -> None:
    weight = soft(torch.tensor([[0.2, 0.3]]))
    with torch.no_grad():
        weight.logit.copy_(torch.tensor([[-9.0, 9.0]]))
    assert float(weight.undecided(2.0).detach()) == 0.0
    with torch.no_grad():
        weight.logit.zero_()
    assert float(weight.undecided(2.0).detach()) == 1.0


def test_sharpness_falls_from_its_first_value_to_its_last_after_the_warm_up() -> None:
    found = [sharpness_at(step, 100) for step in range(100)]
    assert found[: int(WARMUP * 100)] == [None] * 20
    falling = [value for value in found if value is not None]
    assert falling[0] == SHARPNESS[0]
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] == pytest.approx(SHARPNESS[1], abs=0.1)


def test_every_sample_comes_once_a_round() -> None:
    stream = shuffled(10, 4, torch.Generator().manual_seed(0))
    for _ in range(2):
        assert sorted(torch.cat([next(stream) for _ in range(3)]).tolist()) == list(range(10))


def test_the_error_is_the_mean_over_all_samples() -> None:
    x, target = draw(10, 3), draw(10, 2, seed=1)
    weight = draw(2, 3, seed=2)
    found = squared_error(lambda at, weights: x[at] @ weights["w"].T, target, {"w": weight}, 4)
    assert found == pytest.approx(float((x @ weight.T - target).square().mean()))
