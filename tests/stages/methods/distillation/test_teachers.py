from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mcomp.data.splits import Splits
from mcomp.model.example import Example
from mcomp.recipe.schema import Compute, RecipeRef
from mcomp.stage import Checkpoint, Context, at_once
from mcomp_stages.methods.distillation import teachers
from mcomp_stages.methods.distillation.teachers import OUTPUT, LiveTeacher, asked_once, ready
from tests.mcomp.training.checkpoints import Memory
from tests.mcomp.training.setting import make_context, same, small_data

REFERENCE = RecipeRef(recipe="teacher.yaml")
CPU = torch.device("cpu")
ORDERS = (torch.arange(49), torch.arange(48, -1, -1), torch.randperm(49))


class Counting(nn.Module):
    """Says the mean of each image, and counts how many times it saw each."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()
        self.seen: Counter[float] = Counter()

    def forward(self, image: Tensor) -> Tensor:
        means = image.mean((1, 2, 3))
        self.seen.update(means.tolist())
        inner: Tensor = self.inner(torch.stack([means, -means], dim=1))
        return inner * 2


@dataclass
class Kept:
    """Keeps what was computed, by what it depends on."""

    kept: dict[str, Checkpoint] = field(default_factory=dict)

    def get(self, what: Mapping[str, Any], of: RecipeRef, compute: Callable[[], Checkpoint]) -> Checkpoint:
        name = f"{of.recipe} {sorted(what.items())}"
        if name not in self.kept:
            self.kept[name] = compute()
        return self.kept[name]


def setting(augmented: bool = False) -> tuple[Context, Counting, LiveTeacher]:
    split: Any = replace(small_data().split("train"), augmented=augmented)
    context = make_context(Splits({**small_data().by_name, "train": split}))
    module = Counting()
    return context, module, LiveTeacher(module, ["inner"], Compute(), CPU)


@pytest.mark.parametrize(("augmented", "times", "why"), [(False, 1, ""), (True, 3, "samples are augmented")])
def test_each_teacher_sees_a_sample_once_unless_samples_change(augmented: bool, times: int, why: str) -> None:
    context, module, live = setting(augmented)
    split = context.data.split("train")
    teacher, reason = ready(live, REFERENCE, context, 10**6, "teacher")
    module.seen.subtract(split.batch(torch.arange(2)).inputs["image"].mean((1, 2, 3)).tolist())
    for positions in ORDERS:
        batch = split.batch(positions)
        expected = batch.inputs["image"].mean((1, 2, 3))
        answer = teacher(batch)
        assert torch.allclose(answer[OUTPUT][:, 0], 2 * expected)
        assert torch.allclose(answer["inner"][:, 1], -expected)
    assert set(module.seen.values()) == {times}
    assert reason.startswith(why)
    assert bool(reason) is augmented


def test_answers_that_take_too_much_room_are_asked_for_each_time() -> None:
    context, _, live = setting()
    needed = 49 * 4 * (2 + 2)
    assert ready(live, REFERENCE, context, needed, "teacher")[1] == ""
    context, _, live = setting()
    assert "more than cache_bytes" in ready(live, REFERENCE, context, needed - 1, "teacher")[1]


def test_tokens_of_sentences_of_any_length_are_asked_for_each_time() -> None:
    from mcomp.data.contract import VaryingSize

    context, module, live = setting()
    varying = Example(dict(context.example), {"image": {2: VaryingSize("rows", 9)}})
    assert ready(live, REFERENCE, replace(context, example=varying), 10**6, "teacher")[1] == ""
    tokens = LiveTeacher(nn.Conv2d(1, 2, 1), [], Compute(), CPU)
    tokens.module.forward = lambda image: image  # type: ignore[method-assign]
    del module
    assert (
        ready(tokens, REFERENCE, replace(context, example=varying), 10**6, "teacher")[1]
        == "samples differ in length"
    )


def test_kept_answers_are_shared_and_bit_equal_to_recomputing() -> None:
    shared = Kept()
    context, first, live = setting()
    context = replace(context, shared=shared)
    one, _ = ready(live, REFERENCE, context, 10**6, "teacher")
    second = Counting()
    other, _ = ready(LiveTeacher(second, ["inner"], Compute(), CPU), REFERENCE, context, 10**6, "teacher")
    assert sum(second.seen.values()) == 2  # the example
    anew = asked_once(LiveTeacher(first, ["inner"], Compute(), CPU), context.data.split("train"), "", at_once)
    batch = context.data.split("train").batch(torch.randperm(49))
    assert torch.equal(one(batch)[OUTPUT], other(batch)[OUTPUT])
    assert torch.equal(anew.tensors[OUTPUT], next(iter(shared.kept.values())).tensors[OUTPUT])


def test_of_many_samples_portions_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    context, module, live = setting()
    whole = asked_once(live, context.data.split("train"), "", at_once)
    monkeypatch.setattr(teachers, "PORTION", 20)
    monkeypatch.setattr(teachers, "BATCH_SIZE", 10)
    context = replace(context, checkpoints=Memory())
    asked_once(live, context.data.split("train"), "teacher-0", context.unit)
    del context.checkpoints.kept["teacher-0-2"]  # type: ignore[attr-defined]
    module.seen.clear()
    again = asked_once(live, context.data.split("train"), "teacher-0", context.unit)
    assert sum(module.seen.values()) == 49 - 40
    assert same(again.tensors, whole.tensors)


def test_other_places_are_another_result() -> None:
    shared = Kept()
    context, module, live = setting()
    context = replace(context, shared=shared)
    ready(live, REFERENCE, context, 10**6, "teacher")
    ready(LiveTeacher(module, [], Compute(), CPU), REFERENCE, context, 10**6, "teacher")
    assert len(shared.kept) == 2


def test_no_tap_is_left_in_a_module_that_was_asked_once() -> None:
    context, module, live = setting()
    ready(live, REFERENCE, context, 10**6, "teacher")
    assert not module.inner._forward_hooks


def test_answers_in_reduced_precision_come_in_32_bits() -> None:
    module = nn.Linear(3, 2)
    module.forward = lambda image: nn.functional.linear(image.mean((2, 3)).expand(-1, 3), module.weight)  # type: ignore[method-assign]
    batch = small_data().split("train").batch(torch.arange(4))
    full = LiveTeacher(module, [], Compute(), CPU)(batch)[OUTPUT]
    reduced = LiveTeacher(module, [], Compute(precision="bf16-mixed"), CPU)(batch)[OUTPUT]
    assert reduced.dtype == torch.float32
    assert not torch.equal(full, reduced)
    assert torch.allclose(full, reduced, atol=0.02)
