"""The choice of what goes: targets, rounding, floors, and what cannot be reached."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mcomp.errors import StageError
from mcomp_stages.methods.pruning.config import Target
from mcomp_stages.methods.pruning.cut import choose_cut, levels
from mcomp_stages.methods.pruning.groups import GroupedAxis, Groups, group_sets
from mcomp_stages.methods.pruning.size import Sizes
from mcomp_stages.methods.pruning.trace import Layer


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
    return Groups(tuple(axes), group_sets(axes), first, tuple(layers), shapes)


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
    cut = choose_cut(groups, random_scores(groups, seed), target, round_to=round_to, nearest=True)
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
    assert levels(size, unit, round_to, floor) == expected


@pytest.mark.parametrize("fields", [{}, {"macs": 0.5, "ratio": 0.5}])
def test_a_target_names_exactly_one_quantity(fields: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="give exactly one of macs, params, ratio, not"):
        Target.model_validate(fields)


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1])
def test_a_share_lies_between_none_and_all(share: float) -> None:
    with pytest.raises(ValidationError):
        Target(macs=share)
