"""The cubic schedule, and masks that grow while training, also when it is interrupted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcomp.model.model import Model
from mcomp.stage import Context
from mcomp.training.config import SGD, Checkpointing
from mcomp_stages.methods.distillation.config import DistilledTraining
from mcomp_stages.methods.sparsity.chosen import chosen_weights
from mcomp_stages.methods.sparsity.config import Gradual, Importance
from mcomp_stages.methods.sparsity.gradual import GradualMasks, Growth, growth_of
from mcomp_stages.methods.sparsity.masks import selector_of
from mcomp_stages.methods.sparsity.schedules import Pruned, Pruning, while_training
from tests.mcomp.training.checkpoints import Memory, interrupted_at, terminate
from tests.mcomp.training.setting import make_context, same, small_model
from tests.stages.test_units import Talked


@given(first=st.integers(1, 20), length=st.integers(0, 50), final=st.floats(0.1, 0.99))
def test_the_cubic_rises_from_the_first_to_the_last_mask(first: int, length: int, final: float) -> None:
    growth = Growth(first, first + length, 3, 0.05, final)
    curve = [growth.sparsity(number) for number in range(first, first + length + 1)]
    assert curve == sorted(curve)
    assert curve[0] == pytest.approx(0.05 if length else final)
    assert curve[-1] == final
    assert growth.is_due(first + length)
    assert not growth.is_due(first + length + 1)


def test_half_way_seven_eighths_are_done() -> None:
    assert Growth(100, 200, 1, 0.0, 0.8).sparsity(150) == pytest.approx(0.7)


def test_a_schedule_is_one_of_updates() -> None:
    schedule = Gradual(start=0.25, end=0.5, every=4)
    assert growth_of(schedule, 0.9, 200) == Growth(50, 100, 4, 0.0, 0.9)
    assert growth_of(Gradual(start=0.0, end=1.0), 0.9, 1) == Growth(1, 1, 10, 0.0, 0.9)


def test_movement_adds_up_where_a_weight_goes() -> None:
    module = small_model().module
    selector = selector_of(chosen_weights(module, ["fc"]), importance="movement")
    masks = GradualMasks(module, selector, Growth(2, 2, 1, 0.0, 0.5), {})
    weight = module.fc.weight
    weight.grad = torch.ones_like(weight)
    expected = -weight.detach().clone()
    masks.after_update(1, 0.1)
    assert torch.equal(masks.moved["fc.weight"], expected)
    masks.after_update(2, 0.1)
    kept = masks.masks["fc.weight"]
    assert int(kept.sum()) == 6
    assert weight[kept].max() <= weight[~kept].min() or weight[~kept].abs().max() == 0
    assert expected[kept].min() >= expected[~kept].max()


def pruned(context: Context, importance: Importance = "l1", every: int = 2) -> Pruned:
    model = small_model()
    selector = selector_of(chosen_weights(model.module), importance=importance, seed=3)
    training = DistilledTraining(epochs=3, optimizer=SGD(lr=0.1), checkpoint=Checkpointing(every_steps=1))
    schedule = Gradual(end=0.5, every=every)
    return while_training(model, Pruning(selector, 0.75, training), schedule, context)


def quiet(memory: Memory | None = None) -> Context:
    context = replace(make_context(), reporter=Talked())
    return replace(context, checkpoints=memory) if memory else context


def test_the_model_that_is_kept_has_the_final_sparsity() -> None:
    result = pruned(quiet())
    zeros = {name: int((~mask).sum()) for name, mask in result.model.state.items()}
    assert sum(zeros.values()) == 36  # of 36 + 12 weights
    for name in zeros:
        parameter = result.model.module.get_parameter(name.removeprefix("masks."))
        assert not parameter[~result.model.state[name]].any()
    assert result.facts["best_epoch"] >= 2  # the first ends while masks still grow


@pytest.mark.parametrize("importance", ["l1", "movement", "random"])
@pytest.mark.parametrize("update", [1, 3, 7])
def test_masks_go_on_where_training_was_interrupted(
    update: int, importance: Importance, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, memory = pruned(quiet(), importance), Memory()
    run = lambda: pruned(quiet(memory), importance)  # noqa: E731
    assert interrupted_at(update, terminate, run, monkeypatch) is None
    resumed = run()
    assert equal(whole.model, resumed.model)
    assert whole.facts == resumed.facts


def equal(left: Model, right: Model) -> bool:
    return same(left.module.state_dict(), right.module.state_dict()) and same(left.state, right.state)
