"""The choice of what goes: targets, rounding, floors, and what cannot be reached."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from mcomp.errors import StageError
from mcomp_stages.methods.pruning.config import LayerLimits, Target
from mcomp_stages.methods.pruning.cut import choose_cut
from mcomp_stages.methods.pruning.group_records import GroupedAxis, Groups
from mcomp_stages.methods.pruning.group_sets import Makers, group_sets
from mcomp_stages.methods.pruning.groups import channel_groups
from mcomp_stages.methods.pruning.limits import Limits, set_limits
from mcomp_stages.methods.pruning.recorded import Layer
from mcomp_stages.methods.pruning.size import Sizes
from tests.architectures import NETS, example


def chain(*widths: int) -> Groups:
    """Linear layers one after the other; what lies between two of them can be cut."""
    axes, shapes, layers, first = [], {}, [], 0
    for position, (before, after) in enumerate(itertools.pairwise(widths)):
        name = f"layer{position}"
        shapes[name], made = (after, before), np.arange(first, first + after)
        layers.append(Layer(name, 1))
        if position > 0:
            axes.append(GroupedAxis(name, 1, np.arange(first - before, first), output=False))
        if position < len(widths) - 2:
            axes.append(GroupedAxis(name, 0, made, output=True))
            first += after
    sets = group_sets(axes, Makers(weights=shapes, heads=(), shapes=shapes))
    return Groups(tuple(axes), sets, first, tuple(layers), shapes)


def random_scores(groups: Groups, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(groups.num_groups)


def kept_widths(cut) -> list[int]:
    return [int((~cut.removed[group_set.groups]).sum()) for group_set in cut.groups.sets]


@given(
    quantity=st.sampled_from(["macs", "params", "ratio"]),
    share=st.floats(0.25, 0.75),
    seed=st.integers(0, 99),
    round_to=st.sampled_from([1, 2, 4]),
)
def test_at_most_the_target_and_as_full_as_rounding_allows(
    quantity: str, share: float, seed: int, round_to: int
) -> None:
    groups = chain(8, 64, 96, 64, 128, 10)
    target = Target.model_validate({quantity: share})
    cut = choose_cut(groups, random_scores(groups, seed), target, limits=Limits(round_to), nearest=True)
    reached = cut.shares[target.quantity]
    assert 0.95 * target.keep <= reached <= target.keep
    assert all(kept % round_to == 0 and kept >= 8 for kept in kept_widths(cut))


@given(seed=st.integers(0, 99), share=st.floats(0.2, 0.9))
def test_within_a_set_the_lowest_scores_go(seed: int, share: float) -> None:
    groups = chain(8, 32, 48, 10)
    scores = random_scores(groups, seed)
    cut = choose_cut(groups, scores, Target(params=share), nearest=True)
    for group_set in groups.sets:
        gone, stays = cut.removed[group_set.groups], ~cut.removed[group_set.groups]
        if gone.any():
            assert scores[group_set.groups][gone].max() < scores[group_set.groups][stays].min()


@given(seed=st.integers(0, 20), share=st.floats(0.3, 0.9))
def test_no_single_step_more_would_fit(seed: int, share: float) -> None:
    groups = chain(8, 32, 48, 10)
    cut = choose_cut(groups, random_scores(groups, seed), Target(macs=share), nearest=True)
    sizes, kept = Sizes(groups), np.array(kept_widths(cut))
    for column in range(len(kept)):
        more = kept.copy()
        more[column] += 8
        if more[column] <= sizes.full_S[column]:
            assert sizes.share("macs", more) > share


def test_ties_cut_the_lower_index_first() -> None:
    groups = chain(4, 16, 10)
    cut = choose_cut(groups, np.ones(16), Target(ratio=0.5))
    assert cut.removed.tolist() == [True] * 8 + [False] * 8


def test_a_target_below_the_smallest_share_says_what_is_reachable() -> None:
    groups = chain(8, 16, 10)
    with pytest.raises(
        StageError, match=r"cannot keep only 30\.0% of the multiply-adds: 50\.0% is the smallest"
    ):
        choose_cut(groups, random_scores(groups, 0), Target(macs=0.3))


def test_a_gap_below_the_target_is_an_error_unless_nearest() -> None:
    groups = chain(8, 16, 10)
    with pytest.raises(StageError, match=r"nearest keep 50\.0% and 100\.0%"):
        choose_cut(groups, random_scores(groups, 0), Target(macs=0.8))
    cut = choose_cut(groups, random_scores(groups, 0), Target(macs=0.8), nearest=True)
    assert cut.shares["macs"] == 0.5


def test_a_model_without_groups_cannot_be_cut() -> None:
    groups = chain(8, 10)
    with pytest.raises(StageError, match="no channel can be cut"):
        choose_cut(groups, np.zeros(0), Target(macs=0.5))


def test_kept_indices_name_only_axes_that_shrink() -> None:
    groups = chain(4, 8, 16, 10)
    cut = choose_cut(groups, np.arange(24.0), Target(ratio=0.2), nearest=True)
    assert set(cut.kept_indices) == {("layer1", 0), ("layer2", 1)}
    assert cut.kept_indices["layer1", 0] == tuple(range(8, 16))
    assert cut.shape_after("layer2", (10, 16)) == (10, 8)


@pytest.mark.parametrize(
    ("size", "unit", "round_to", "floor", "expected"),
    [
        (20, 1, 8, 1, [8, 16, 20]),
        (8, 1, 8, 1, [8]),
        (5, 1, 8, 1, [5]),
        (16, 2, 8, 1, [4, 8, 12, 16]),
        (16, 1, 4, 6, [8, 12, 16]),
        (4, 1, 1, 2, [2, 3, 4]),
        (4, 3, 8, 1, [4]),
    ],
)
def test_levels(size: int, unit: int, round_to: int, floor: int, expected: list[int]) -> None:
    assert Limits(round_to, floor).levels(size, unit) == expected


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(4, 1, max_ratio=0.5), [8, 12, 16]),
        (Limits(4, 1, max_ratio=0.3), [12, 16]),
        (Limits(1, 1, ratio=0.25), [12]),
        (Limits(8, 1, ratio=0.3), [8]),
        (Limits(8, 12, ratio=0.9), [16]),
        (Limits(1, 1, max_ratio=0.2, ratio=0.9), [13]),
        (Limits(1, 1, ratio=0.0), [16]),
        (Limits(1, 1, whole=True), [16]),
    ],
)
def test_limits_of_one_set_of_sixteen(limits: Limits, expected: list[int]) -> None:
    assert limits.levels(16, 1) == expected


def test_a_set_without_scores_stays() -> None:
    groups = chain(8, 32, 48, 10)
    scores = random_scores(groups, 0)
    scores[groups.sets[1].groups] = np.nan
    cut = choose_cut(groups, scores, Target(macs=0.5), nearest=True)
    assert kept_widths(cut)[1] == 48
    assert kept_widths(cut)[0] < 32


def test_ratios_of_layers_hold_beside_a_target_and_alone() -> None:
    groups = chain(8, 32, 48, 64, 10)
    scores = random_scores(groups, 0)
    limits = [Limits(ratio=0.25), Limits(), Limits(ratio=0.5)]
    assert kept_widths(choose_cut(groups, scores, None, limits=limits)) == [24, 48, 32]
    with_target = choose_cut(groups, scores, Target(macs=0.5), limits=limits, nearest=True)
    assert kept_widths(with_target)[::2] == [24, 32]
    assert with_target.shares["macs"] <= 0.5


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 48), nn.Linear(48, 10))


def test_limits_come_from_the_last_pattern_that_matches_a_layer() -> None:
    groups = channel_groups(net(), {"input": torch.randn(2, 8)})
    layers = [
        LayerLimits(match="*", max_ratio=0.5, round_to=4),
        LayerLimits(match="2", ratio=0.25),
    ]
    assert set_limits(groups, net(), Limits(), layers) == [
        Limits(4, 8, max_ratio=0.5),
        Limits(4, 8, max_ratio=0.5, ratio=0.25),
    ]


def test_a_pattern_that_matches_nothing_that_can_be_cut_is_an_error() -> None:
    groups = channel_groups(net(), {"input": torch.randn(2, 8)})
    with pytest.raises(StageError, match="no channels of what matches '3' can be cut"):
        set_limits(groups, net(), Limits(), [LayerLimits(match="3", ratio=0.5)])
    with pytest.raises(StageError, match="no module matches 'conv1'"):
        set_limits(groups, net(), Limits(), [LayerLimits(match="conv1", ratio=0.5)])


def test_sets_of_other_units_stay() -> None:
    groups = channel_groups(NETS["vit"](), example())
    limits = set_limits(groups, NETS["vit"](), Limits(1, 1), units=["heads"])
    assert limits[1] == Limits(round_to=1, min_channels=1)
    kept = [each.whole for each in limits]
    assert kept == [group_set.unit != "heads" for group_set in groups.sets]
    assert kept.count(False) == 2


@pytest.mark.parametrize("fields", [{}, {"macs": 0.5, "ratio": 0.5}])
def test_a_target_names_exactly_one_quantity(fields: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="give exactly one of macs, params, ratio, latency_ms, not"):
        Target.model_validate(fields)


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1])
def test_a_share_lies_between_none_and_all(share: float) -> None:
    with pytest.raises(ValidationError):
        Target(macs=share)
