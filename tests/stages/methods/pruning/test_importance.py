"""Scores against a loop over every slice."""

from __future__ import annotations

import pytest
import torch

from mcomp_stages.methods.pruning.groups import Groups, channel_groups
from mcomp_stages.methods.pruning.importance import IMPORTANCE, channel_importance
from tests.architectures import NETS, example


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return NETS["vgg"]()


@pytest.fixture(scope="module")
def groups(net: torch.nn.Module) -> Groups:
    return channel_groups(net, example())


def slow_norm(net: torch.nn.Module, groups: Groups, group: int, power: int) -> float:
    parameters = dict(net.named_parameters())
    total = 0.0
    for axis in groups.axes:
        for index, member in enumerate(axis.groups.tolist()):
            if member == group and axis.name in parameters:
                weight = parameters[axis.name].detach().double()
                total += float((weight.select(axis.axis, index).abs() ** power).sum())
    return total ** (1 / power)


@pytest.mark.parametrize(("importance", "power"), [("l1", 1), ("l2", 2)])
def test_norm_is_over_every_slice_of_the_group(
    net: torch.nn.Module, groups: Groups, importance: str, power: int
) -> None:
    scores = IMPORTANCE[importance](groups, dict(net.named_parameters()), torch.Generator())
    for group in range(0, groups.num_groups, 7):
        assert scores[group] == pytest.approx(slow_norm(net, groups, group, power))


@pytest.mark.parametrize("importance", ["l1", "l2", "random"])
def test_every_set_has_mean_one(net: torch.nn.Module, groups: Groups, importance: str) -> None:
    scores = channel_importance(groups, dict(net.named_parameters()), importance, torch.Generator())
    for group_set in groups.sets:
        assert scores[group_set.groups].mean() == pytest.approx(1.0)


def test_random_scores_depend_on_the_generator_alone(net: torch.nn.Module, groups: Groups) -> None:
    def scores(seed: int) -> list[float]:
        generator = torch.Generator().manual_seed(seed)
        return channel_importance(groups, dict(net.named_parameters()), "random", generator).tolist()

    assert scores(1) == scores(1) != scores(2)


def test_weights_that_are_all_zero_do_not_divide_by_zero(net: torch.nn.Module, groups: Groups) -> None:
    zeros = {name: torch.zeros_like(weight) for name, weight in net.named_parameters()}
    assert not channel_importance(groups, zeros, "l2", torch.Generator()).any()
