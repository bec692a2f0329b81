from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mcomp.data.contract import Batch
from mcomp.data.following import FollowingData, FollowingSplit
from mcomp.data.splits import Splits, TensorSplit
from mcomp.errors import StageError


class Counting(nn.Module):
    """Doubles, drops out while training, and counts the samples that it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.dropout = nn.Dropout(0.9)

    def forward(self, x: Tensor) -> Tensor:
        self.asked += len(x)
        return self.dropout(2 * x)


class Shifted(TensorSplit):
    """Adds the draw to every sample."""

    def batch(self, positions: Tensor, draw: int | None = None) -> Batch:
        plain = super().batch(positions)
        return Batch(plain.indices, {"x": plain.inputs["x"] + (draw or 0)}, plain.target)


def split(kind: type[TensorSplit] = TensorSplit, augmented: bool = False, size: int = 150) -> TensorSplit:
    x = torch.arange(float(size))[:, None].repeat(1, 3)
    return kind(torch.arange(size) + 7, {"x": x}, torch.empty(size, 0), augmented)


def followed(samples: TensorSplit, module: nn.Module) -> FollowingSplit:
    return FollowingData(Splits({"train": samples}), module).split("train")


def test_the_target_of_a_sample_is_what_the_model_says_about_it() -> None:
    following = followed(split(), Counting())
    batch = following.batch(torch.tensor([5, 140, 0]), draw=3)
    assert batch.target.tolist() == [[10.0] * 3, [280.0] * 3, [0.0] * 3]
    assert batch.indices.tolist() == [12, 147, 7]


def test_each_sample_is_asked_for_once() -> None:
    module = Counting().train()
    data = FollowingData(Splits({"train": split(), "test": split(size=20)}), module)
    for _ in range(3):
        data.split("train").batch(torch.tensor([1]))
    assert module.asked == 150
    assert module.training


def test_samples_are_asked_for_before_the_first_batch_is_loaded() -> None:
    """A batch is loaded within an update, whose end signals wait for."""
    module = Counting()
    assert len(followed(split(), module)) == module.asked == 150


def test_of_a_part_the_model_is_asked_about_its_samples_alone() -> None:
    module = Counting()
    part = FollowingData(Splits({"train": split()}), module).part("train", 20)
    batch = part.batch(torch.arange(20))
    assert len(part) == module.asked == 20
    assert torch.equal(batch.target, 2 * batch.inputs["x"])


class Relative(nn.Module):
    """Says something else about a sample in every batch, as sums of floats do in their last bits."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean()


def test_what_is_said_about_a_part_does_not_depend_on_what_was_asked_for_before() -> None:
    fresh, used = (FollowingData(Splits({"train": split()}), Relative()) for _ in range(2))
    used.split("train")
    first, second = (data.part("train", 70).batch(torch.arange(70)) for data in (fresh, used))
    assert torch.equal(first.indices, second.indices)
    assert torch.equal(first.target, second.target)


def test_augmented_samples_are_asked_for_as_they_are_seen() -> None:
    following = followed(split(Shifted, augmented=True), Counting())
    assert following.batch(torch.tensor([1]), draw=10).target.tolist() == [[22.0] * 3]
    assert following.batch(torch.tensor([1])).target.tolist() == [[2.0] * 3]


def test_targets_carry_no_gradient() -> None:
    module = nn.Linear(3, 2)
    module.forward = lambda x: nn.functional.linear(x, module.weight)  # type: ignore[method-assign]
    assert not followed(split(), module).batch(torch.tensor([0])).target.requires_grad


def test_what_differs_in_shape_from_batch_to_batch_is_no_target() -> None:
    class Ragged(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.repeat(1, 1 + int(x.sum()) % 2)

    with pytest.raises(StageError, match="one vector a sample"):
        followed(split(), Ragged()).batch(torch.tensor([0]))


def test_it_is_as_long_and_as_augmented_as_the_split_it_follows() -> None:
    for augmented in (False, True):
        following = followed(split(augmented=augmented), Counting())
        assert (len(following), following.augmented) == (150, augmented)
