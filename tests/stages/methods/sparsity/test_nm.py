"""N:M masks: just n of every m, the largest; orders of channels in which that costs less."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mcomp.errors import StageError
from mcomp.stage import at_once
from mcomp_stages.methods.sparsity.chosen import chosen_weights
from mcomp_stages.methods.sparsity.config import Axis, Pattern
from mcomp_stages.methods.sparsity.masks import with_masks
from mcomp_stages.methods.sparsity.nm import (
    from_lines,
    lines,
    nm_mask,
    pattern_mask,
    require_divisible,
    require_pattern,
)
from mcomp_stages.methods.sparsity.permutation import best_order, kept_magnitude
from mcomp_stages.methods.sparsity.reorder import reordered
from tests.architectures import example
from tests.stages.prune.setting import model_of

TWO_OF_FOUR = Pattern(keep=2, of=4)
PATTERNS = st.integers(2, 5).flatmap(lambda m: st.tuples(st.integers(1, m - 1), st.just(m)))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, int, int]:
    n, m = draw(PATTERNS)
    rows, groups = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    numbers = st.lists(st.integers(0, 5), min_size=rows * groups * m, max_size=rows * groups * m)
    return torch.tensor(draw(numbers)).view(rows, groups * m).float(), n, m


def slow_mask(score: list[float], n: int, m: int) -> list[bool]:
    kept = []
    for start in range(0, len(score), m):
        group = score[start : start + m]
        ranked = sorted(range(m), key=lambda place: (-group[place], place))
        kept += [place in ranked[:n] for place in range(m)]
    return kept


@given(problem=problems())
def test_the_highest_n_of_every_m_stay(problem: tuple[Tensor, int, int]) -> None:
    score, n, m = problem
    assert nm_mask(score, n, m).tolist() == [slow_mask(row, n, m) for row in score.tolist()]


def test_ties_keep_the_lower_index() -> None:
    assert nm_mask(torch.zeros(1, 4), 2, 4).tolist() == [[True, True, False, False]]


def test_columns_that_are_no_multiple_are_refused() -> None:
    with pytest.raises(ValueError, match="6 columns, not a multiple of 4"):
        nm_mask(torch.zeros(1, 6), 2, 4)


@pytest.mark.parametrize(("axis", "size"), [("input", 8), ("output", 4)])
@pytest.mark.parametrize("kernel", [(), (3,), (3, 2)])
def test_neighbours_lie_along_the_axis(axis: Axis, size: int, kernel: tuple[int, ...]) -> None:
    weight = torch.randn(4, 8, *kernel, generator=torch.Generator().manual_seed(0))
    rows = lines(weight, axis)
    assert rows.shape[1] == size
    assert torch.equal(from_lines(rows, weight.shape, axis), weight)
    mask = pattern_mask(weight, TWO_OF_FOUR, axis)
    along = mask.movedim(0 if axis == "output" else 1, 0)
    assert all((along[start : start + 4].sum(0) == 2).all() for start in range(0, size, 4))


def test_a_mask_that_is_there_counts_as_left_out() -> None:
    weight, held = torch.tensor([[9.0, 8, 1, 2]]), torch.tensor([[False, True, True, True]])
    assert pattern_mask(weight, TWO_OF_FOUR, "input", held).tolist() == [[False, True, False, True]]


def test_layers_that_do_not_fit_are_named_together() -> None:
    chosen = chosen_weights(model_of("vgg").module)
    with pytest.raises(StageError, match=r"features.0 has 3 inputs: not a multiple of 4; add them to skip"):
        require_divisible(chosen, TWO_OF_FOUR, "input")
    with pytest.raises(StageError, match=r"classifier.4 has 10 outputs: not a multiple of 4"):
        require_divisible(chosen, TWO_OF_FOUR, "output")


def test_a_weight_too_many_is_found() -> None:
    model = model_of("vgg")
    chosen = chosen_weights(model.module, skip=["features.0"])
    masks = {each.name: pattern_mask(each.parameter, TWO_OF_FOUR, "input") for each in chosen}
    sparse = with_masks(model, masks)
    require_pattern(sparse, chosen, TWO_OF_FOUR, "input")
    sparse.module.get_parameter("features.4.weight").data[0, :3, 1, 1] = 1.0
    with pytest.raises(StageError, match=r"features.4: \d of 4 neighbours are not zero, 2 may be"):
        require_pattern(sparse, chosen, TWO_OF_FOUR, "input")


# Orders


def test_two_large_pairs_are_parted() -> None:
    """Four columns of large numbers stand together; two in each group keep all of them."""
    score = torch.tensor([[5.0, 5, 5, 5, 1, 1, 1, 1]]).repeat(3, 1)
    order = best_order(score, 2, 4)
    assert sorted(order.tolist()) == list(range(8))
    assert kept_magnitude(score, 2, 4) == 36
    assert kept_magnitude(score[:, order], 2, 4) == 60


@given(problem=problems())
def test_an_order_never_keeps_less_and_no_swap_would_keep_more(problem: tuple[Tensor, int, int]) -> None:
    score, n, m = problem
    order = best_order(score, n, m)
    assert sorted(order.tolist()) == list(range(score.shape[1]))
    reached = kept_magnitude(score[:, order], n, m)
    assert reached >= kept_magnitude(score, n, m)
    for left, right in itertools.combinations(range(score.shape[1]), 2):
        swapped = order.clone()
        swapped[[left, right]] = order[[right, left]]
        assert kept_magnitude(score[:, swapped], n, m) <= reached + 1e-3


@pytest.mark.parametrize("name", ["vgg", "mbconv", "vit"])
def test_a_reordered_network_computes_the_same_and_keeps_more(name: str) -> None:
    model = model_of(name)
    model.module.eval()
    names = [
        each.name for each in chosen_weights(model.module) if each.parameter.shape[1] % TWO_OF_FOUR.of == 0
    ]
    result = reordered(
        model, names, TWO_OF_FOUR, "input", example(), at_once
    )  # proves the same outputs itself
    kept = [
        sum(
            kept_magnitude(lines(each.module.get_parameter(name).detach().abs(), "input"), 2, 4)
            for name in names
        )
        for each in (model, result)
    ]
    assert kept[1] > kept[0]
    assert [edit.kind for edit in result.edits] == ["keep_channels"]
    fresh = result.spec.build().eval()
    for edit in result.edits:
        edit.apply(fresh, {})
    fresh.load_state_dict(result.module.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(**example()), result.module.eval()(**example()))


def test_masks_move_with_their_channels(tmp_path: Path) -> None:
    model = model_of("vgg")
    mask = torch.rand(24, 16, 3, 3, generator=torch.Generator().manual_seed(0)) > 0.3
    sparse = with_masks(model, {"features.4.weight": mask})
    result = reordered(
        sparse, ["features.4.weight", "features.8.weight"], TWO_OF_FOUR, "input", example(), at_once
    )
    assert not torch.equal(result.state["masks.features.4.weight"], mask)
    assert torch.equal(
        result.module.get_parameter("features.4.weight") != 0, result.state["masks.features.4.weight"]
    )


def test_channels_that_a_layer_reads_only_in_part_stay_where_they_are() -> None:
    model = model_of("concat")
    names = [each.name for each in chosen_weights(model.module, skip=["stem"])]
    assert reordered(model, names, TWO_OF_FOUR, "input", example(), at_once) is model
