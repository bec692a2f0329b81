"""Proximal steps: equal to the slow minimum of each penalty, and exact zeros."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mcomp.errors import StageError
from mcomp.model.edits import KeepChannels, Slice
from mcomp_stages.methods.pruning.groups import channel_groups
from mcomp_stages.methods.sparsity.chosen import chosen_weights
from mcomp_stages.methods.sparsity.penalties import PENALTIES, Penalized
from mcomp_stages.methods.sparsity.penalty_config import L1, L2, GroupLasso, Growing, Slimming
from mcomp_stages.methods.sparsity.shrinkage import (
    Shrinking,
    Slices,
    as_groups,
    group_sums,
    in_proportion,
    towards_zero,
)
from tests.architectures import example
from tests.stages.prune.setting import model_of

STEPS = st.floats(0.01, 2.0)
SEEDS = st.integers(0, 1000)


def weight_of(seed: int, *shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


def stepped(shrink: object, step: float) -> None:
    with torch.no_grad():
        shrink(step)  # type: ignore[operator]


def slow_minimum(w: float, step: float) -> float:
    """The point of a fine grid that minimizes step * |v| + (v - w)^2 / 2."""
    grid = torch.linspace(-5, 5, 200_001, dtype=torch.float64)
    return float(grid[(step * grid.abs() + (grid - w).square() / 2).argmin()])


@given(w=st.floats(-3, 3), step=STEPS)
def test_a_step_on_l1_is_the_minimum_of_its_definition(w: float, step: float) -> None:
    weight = nn.Parameter(torch.tensor([w], dtype=torch.float64))
    stepped(towards_zero([weight]), step)
    assert weight.item() == pytest.approx(slow_minimum(w, step), abs=1e-4)
    if abs(w) <= step:
        assert weight.item() == 0.0


@given(seed=SEEDS, step=STEPS)
def test_a_step_on_l2_minimizes_the_sum(seed: int, step: float) -> None:
    weight, before = weight_of(seed, 5), weight_of(seed, 5).detach()
    stepped(in_proportion([weight]), step)
    assert torch.allclose(step * weight + (weight - before), torch.zeros(5), atol=1e-5)  # no slope left


@given(seed=SEEDS, step=STEPS)
def test_a_step_on_groups_shortens_each_by_the_root_of_its_size(seed: int, step: float) -> None:
    weight, before = weight_of(seed, 4, 3), weight_of(seed, 4, 3).detach()
    slices = [Slices("w", 0, torch.tensor([0, 1, 0, -1]))]
    stepped(as_groups({"w": weight}, slices, 2), step)
    for group, rows in ((0, [0, 2]), (1, [1])):
        norm, size = before[rows].norm().item(), 3 * len(rows)
        left = max(0.0, norm - step * size**0.5)
        assert weight[rows].norm().item() == pytest.approx(left, abs=1e-4), group
        if left > 1e-3:
            assert torch.allclose(weight[rows] / left, before[rows] / norm, atol=1e-4)
    assert torch.equal(weight[3], before[3])


def test_a_group_is_summed_over_all_its_slices() -> None:
    parameters = {"a": torch.tensor([[1.0, 2], [3, 4]]), "b": torch.tensor([5.0, 6])}
    slices = [Slices("a", 1, torch.tensor([0, 1])), Slices("b", 0, torch.tensor([1, -1]))]
    assert group_sums(parameters, slices, 2, torch.square).tolist() == [10, 45]


def test_the_strength_rises_along_the_ramp_and_only_the_last_epoch_counts() -> None:
    steps: list[float] = []
    shrinking = Shrinking(steps.append, 0.5, ramp_updates=4, num_updates=10)
    for number in (1, 2, 4, 10):
        shrinking.after_update(number, lr=0.1)
    assert steps == pytest.approx([0.0125, 0.025, 0.05, 0.05])
    assert shrinking.settles_at == 10
    assert shrinking.tensors() == {}


# On networks


def penalized(
    name: str, penalty: object, step: float, cut: tuple[KeepChannels, ...] = ()
) -> dict[str, Tensor]:
    """Return what is left of each parameter of a small network, as a share of what it was."""
    module = model_of(name).module
    before = {each: value.detach().clone() for each, value in module.named_parameters()}
    about = Penalized(chosen_weights(module), channel_groups(module, example()), cut)
    stepped(PENALTIES[penalty.type](module, penalty, about), step)  # type: ignore[attr-defined]
    return {each: value.detach() / before[each] for each, value in module.named_parameters()}


@pytest.mark.parametrize("penalty", [L1(strength=1), L2(strength=1)])
def test_weights_shrink_and_biases_and_norms_do_not(penalty: object) -> None:
    left = penalized("vgg", penalty, 0.01)
    for name, share in left.items():
        is_weight = share.ndim > 1
        assert bool((share.nan_to_num(1) < 1).any()) == is_weight, name


def test_slimming_shrinks_the_scales_of_norms_alone() -> None:
    left = penalized("vgg", Slimming(strength=1), 0.25)
    norms = {"features.1.weight", "features.5.weight", "features.9.weight", "classifier.1.weight"}
    for name, share in left.items():
        assert torch.allclose(share.nan_to_num(1), torch.full_like(share, 0.75 if name in norms else 1.0)), (
            name
        )


def test_slimming_without_norms_is_an_error() -> None:
    with pytest.raises(StageError, match="the model has none; take another penalty"):
        penalized("unet", Slimming(strength=1), 0.1)


@pytest.mark.parametrize(("groups", "axis"), [("filters", 0), ("channels", 1)])
def test_filters_and_channels_shrink_as_a_whole(groups: str, axis: int) -> None:
    left = penalized("vgg", GroupLasso(strength=1, groups=groups), 0.01)
    share = left["features.4.weight"].movedim(axis, 0).flatten(1)
    assert torch.allclose(share, share[:, :1].expand_as(share), atol=1e-4)
    assert share[:, 0].unique().numel() > 1
    assert (share < 1).all()


def test_layers_shrink_as_a_whole() -> None:
    left = penalized("vgg", GroupLasso(strength=1, groups="layers"), 0.01)
    share = left["features.4.weight"]
    assert torch.allclose(share, share.flatten()[0].expand_as(share), atol=1e-4)


def test_what_is_cut_together_shrinks_together() -> None:
    left = penalized("vgg", GroupLasso(strength=1), 0.01)
    norm = left["features.1.weight"]  # of one group each, as the filters before it
    image = left["features.0.weight"][:, 0, 0, 0]  # what reads the image is in no other group
    assert torch.allclose(norm, image, atol=1e-4)
    assert (norm < 1).all()


def test_a_growing_penalty_shrinks_what_the_cut_takes() -> None:
    cut = KeepChannels(slices=(Slice(name="features.0.weight", axis=0, keep=tuple(range(1, 16))),))
    left = penalized("vgg", Growing(strength=1), 1.0, (cut,))
    share = left["features.0.weight"]
    assert torch.allclose(share[0], torch.full_like(share[0], 0.5))
    assert torch.allclose(share[1:], torch.ones_like(share[1:]))
    assert all(
        torch.equal(other.nan_to_num(1), torch.ones_like(other))
        for name, other in left.items()
        if name != "features.0.weight"
    )
