"""Masks: the lowest scores go, to the share that was asked for, and what is gone stays gone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mcomp.errors import StageError
from mcomp.model.edits import KeepChannels, Masks, Slice
from mcomp_stages.methods.sparsity.choice import lowest, lowest_in_all, lowest_in_each
from mcomp_stages.methods.sparsity.chosen import chosen_weights
from mcomp_stages.methods.sparsity.config import Importance, Scope, Unit
from mcomp_stages.methods.sparsity.importance import SCORES
from mcomp_stages.methods.sparsity.masks import Selector, require_zeros, selector_of, with_masks
from mcomp_stages.methods.sparsity.units import unit_index
from tests.mcomp.training.setting import small_model
from tests.stages.prune.setting import model_of

SHARES = st.floats(0.05, 0.95)


def slow_lowest(score: list[float], size: list[int], share: float) -> set[int]:
    """Add one after the other; stop where the next would lead away from the share."""
    order = sorted(range(len(score)), key=lambda unit: (score[unit], unit))
    wanted, gone, held = share * sum(size), set(), 0
    for unit in order[:-1]:
        if gone and abs(held + size[unit] - wanted) >= abs(held - wanted):
            break
        gone.add(unit)
        held += size[unit]
    return gone


@given(
    units=st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 4)), min_size=2, max_size=12), share=SHARES
)
def test_the_lowest_go_until_the_nearest_share(units: list[tuple[int, int]], share: float) -> None:
    score, size = (list(part) for part in zip(*units, strict=True))
    gone = lowest(torch.tensor(score, dtype=torch.float64), torch.tensor(size), share)
    assert set(gone.nonzero().flatten().tolist()) == slow_lowest(score, size, share)


def test_of_equal_scores_the_first_go() -> None:
    assert lowest(torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.int64), 0.5).tolist() == [
        True,
        True,
        False,
        False,
    ]


def test_every_layer_loses_its_share_or_all_are_compared_but_none_goes_as_a_whole() -> None:
    scores = {"a": torch.tensor([1.0, 2, 3, 4]).double(), "b": torch.tensor([10.0, 20, 30, 40]).double()}
    ones = {name: torch.ones(4, dtype=torch.int64) for name in scores}
    each, together = lowest_in_each(scores, ones, 0.5), lowest_in_all(scores, ones, 0.5)
    assert each["a"].tolist() == each["b"].tolist() == [True, True, False, False]
    assert together["a"].tolist() == [True, True, True, False]
    assert together["b"].tolist() == [True, False, False, False]


@given(share=SHARES, scope=st.sampled_from(["layer", "global"]), unit=st.sampled_from(["weight", "vector"]))
def test_masks_hold_the_share_to_one_unit(share: float, scope: Scope, unit: Unit) -> None:
    model = small_model()
    selector = selector_of(chosen_weights(model.module), scope=scope, unit=unit)
    masks = selector.masks(dict(model.module.named_parameters()), {}, share)
    gone = sum(int((~mask).sum()) for mask in masks.values())
    total = sum(mask.numel() for mask in masks.values())
    largest = 3 if unit == "vector" else 1
    assert abs(gone - share * total) <= largest * (len(masks) if scope == "layer" else 1)


@given(first=SHARES, second=SHARES, importance=st.sampled_from(["l1", "l2", "random"]))
def test_a_later_mask_gives_nothing_back(first: float, second: float, importance: Importance) -> None:
    model = small_model()
    selector = selector_of(chosen_weights(model.module, biases=True), importance=importance)
    weights = dict(model.module.named_parameters())
    held = selector.masks(weights, {}, first)
    later = selector.masks(weights, held, second)
    assert all(not (later[name] & ~held[name]).any() for name in held)


@pytest.mark.parametrize(
    ("importance", "score"), [("l1", [2.0, 2.0]), ("l2", [5**0.5, 2.0]), ("movement", [-1.0, 0.5])]
)
def test_scores_are_means_over_a_unit(importance: Importance, score: list[float]) -> None:
    weight = torch.tensor([[1.0, -3.0], [2.0, -2.0]])
    moved = torch.tensor([[-1.0, -1.0], [1.0, 0.0]])
    index = unit_index(weight.shape, "block", (1, 2))
    found = SCORES[importance](weight, index, moved, torch.Generator())
    assert found.tolist() == pytest.approx(score)


def test_masks_live_with_the_model_and_compose() -> None:
    model = small_model()
    left, right = torch.ones(3, 4, dtype=torch.bool), torch.ones(3, 4, dtype=torch.bool)
    left[0], right[:, 0] = False, False
    twice = with_masks(with_masks(model, {"fc.weight": left}), {"fc.weight": right})
    assert [edit.kind for edit in twice.edits] == ["masks"]
    assert torch.equal(twice.state["masks.fc.weight"], left & right)
    assert torch.equal(twice.module.fc.weight != 0, left & right)
    assert model.module.fc.weight.all()


def test_a_cut_slices_the_masks() -> None:
    model = small_model()
    mask = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) > 0.5
    masked = with_masks(model, {"fc.weight": mask})
    cut = masked.edited(KeepChannels(slices=(Slice(name="fc.weight", axis=1, keep=(0, 2)),)))
    assert torch.equal(cut.state["masks.fc.weight"], mask[:, [0, 2]])
    assert torch.equal(cut.module.fc.weight, masked.module.fc.weight[:, [0, 2]])


def test_a_mask_that_does_not_fit_a_changed_layer_is_refused() -> None:
    model = small_model()
    state: dict[str, Tensor] = {"masks.fc.weight": torch.ones(3, 5, dtype=torch.bool)}
    with pytest.raises(ValueError, match=r"mask of fc.weight has shape \(3, 5\), the weight \(3, 4\)"):
        Masks(names=("fc.weight",)).apply(model.module, state)


def test_zeros_are_counted_and_required() -> None:
    model = with_masks(small_model(), {"fc.weight": torch.eye(3, 4).bool()})
    facts = require_zeros(model, ("fc.weight",), 0.75)
    assert facts == {"sparsity": 0.75, "zeros": {"fc.weight": [9, 12]}}
    with pytest.raises(StageError, match=r"75\.0% of the weights are zero and 90\.0% were asked for"):
        require_zeros(model, ("fc.weight",), 0.9)
    model.module.fc.weight.data[0, 1] = 1.0
    with pytest.raises(StageError, match="weights that were pruned are not zero"):
        require_zeros(model, ("fc.weight",), 0.75)


def test_layers_are_chosen_by_patterns_and_a_tied_weight_once() -> None:
    module = model_of("vgg").module
    names = [each.name for each in chosen_weights(module, ["features.*"], ["features.0"])]
    assert names == ["features.4.weight", "features.8.weight"]
    assert [each.name for each in chosen_weights(module, ["classifier"], biases=True)] == [
        f"classifier.{number}.{name}" for number in (0, 4) for name in ("weight", "bias")
    ]
    assert [each.path for each in chosen_weights(model_of("tied").module)] == ["stem", "first", "head"]


@pytest.mark.parametrize(
    ("layers", "skip", "message"),
    [
        (["features.9*"], [], "features.9, which has no linear or convolution"),
        (["feature.0"], [], "no module matches 'feature.0'; did you mean 'features.0'"),
        (["features.0"], ["features"], "no linear or convolution left"),
    ],
)
def test_patterns_that_choose_nothing_are_errors(layers: list[str], skip: list[str], message: str) -> None:
    with pytest.raises(StageError, match=message):
        chosen_weights(model_of("vgg").module, layers, skip)


def test_blocks_at_the_edges_count_with_their_size() -> None:
    selector = Selector({"w": torch.Size([2, 5])}, unit="block", block=(2, 3))
    weight = torch.tensor([[9.0, 9, 9, 1, 1], [9, 9, 9, 1, 1]])
    assert selector.masks({"w": weight}, {}, 0.4)["w"].sum(1).tolist() == [3, 3]
