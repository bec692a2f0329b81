from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.optim.lr_scheduler import OneCycleLR

from mcomp.training.config import SGD, AdamW, Constant, Cosine, OneCycle, Step, Training
from mcomp.training.optimizers import OwnRates, make_optimizer, make_schedule
from tests.mcomp.training.setting import SmallConvNet


def steps(schedule: Any, num_steps: int) -> list[dict[str, Any]]:
    """Return the first parameter group at each of the updates, from a learning rate of 2."""
    training = Training(epochs=1, optimizer=SGD(lr=2.0), schedule=schedule)
    optimizer = make_optimizer(SmallConvNet(), training)
    scheduler = make_schedule(optimizer, training, num_steps)
    seen = []
    for _ in range(num_steps):
        seen.append({name: value for name, value in optimizer.param_groups[0].items() if name != "params"})
        optimizer.step()
        scheduler.step()
    return seen


def rates(schedule: Any, num_steps: int) -> list[float]:
    return [step["lr"] for step in steps(schedule, num_steps)]


def test_weights_decay_and_biases_and_norms_do_not() -> None:
    module = SmallConvNet()
    module.fc.weight.requires_grad_(False)
    optimizer = make_optimizer(module, Training(epochs=1, optimizer=SGD(weight_decay=0.1)))
    decay = {
        id(parameter): group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    named = {name: decay.get(id(parameter)) for name, parameter in module.named_parameters()}
    assert named == {
        "conv.weight": 0.1,
        "conv.bias": 0.0,
        "norm.weight": 0.0,
        "norm.bias": 0.0,
        "fc.weight": None,
        "fc.bias": 0.0,
    }


def test_fields_reach_torch() -> None:
    sgd = make_optimizer(SmallConvNet(), Training(epochs=1, optimizer=SGD(lr=0.3, momentum=0.5)))
    assert isinstance(sgd, optim.SGD)
    assert sgd.param_groups[0]["nesterov"]
    assert (sgd.param_groups[0]["lr"], sgd.param_groups[0]["momentum"]) == (0.3, 0.5)
    adamw = make_optimizer(SmallConvNet(), Training(epochs=1, optimizer=AdamW(lr=0.3, betas=(0.5, 0.6))))
    assert isinstance(adamw, optim.AdamW)
    assert (adamw.param_groups[1]["lr"], adamw.param_groups[1]["betas"]) == (0.3, (0.5, 0.6))


def test_without_momentum_there_is_nothing_to_look_ahead_with() -> None:
    sgd = make_optimizer(SmallConvNet(), Training(epochs=1, optimizer=SGD(momentum=0)))
    assert not sgd.param_groups[0]["nesterov"]


def test_constant_stays() -> None:
    assert rates(Constant(), 3) == [2.0, 2.0, 2.0]


def test_cosine_warms_up_and_falls_to_its_end() -> None:
    seen = rates(Cosine(warmup=0.25, final=0.1), 8)
    falling = [0.1 + 0.9 * (1 + math.cos(math.pi * done / 6)) / 2 for done in range(6)]
    assert seen == pytest.approx([2 / 3, 4 / 3] + [2 * factor for factor in falling])


def test_steps_come_at_their_shares() -> None:
    assert rates(Step(milestones=(0.75, 0.5), gamma=0.1), 4) == pytest.approx([2, 2, 0.2, 0.02])


def test_one_cycle_is_torchs_own() -> None:
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0, momentum=0.9)
    scheduler = OneCycleLR(optimizer, max_lr=2.0, total_steps=20, pct_start=0.4)
    expected = []
    for _ in range(20):
        expected.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
        optimizer.step()
        scheduler.step()
    assert [(step["lr"], step["momentum"]) for step in steps(OneCycle(warmup=0.4), 20)] == expected


@pytest.mark.parametrize("schedule", [Constant(), Cosine(warmup=0.5), OneCycle(warmup=0.01), Step()])
@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_the_shortest_trainings_have_a_rate(schedule: Any, num_steps: int) -> None:
    seen = rates(schedule, num_steps)
    assert all(0 < rate <= 2.0 for rate in seen)


def test_parameters_with_rates_of_their_own_make_a_group_of_their_own() -> None:
    module = SmallConvNet()
    training = Training(epochs=1, optimizer=SGD(lr=0.3, weight_decay=0.1))
    optimizer = make_optimizer(module, training, OwnRates("fc.", lr=0.01, weight_decay=0.5))
    *_, own = optimizer.param_groups
    assert own["params"] == [module.fc.weight, module.fc.bias]
    assert (own["lr"], own["weight_decay"]) == (0.01, 0.5)
    others = [each for group in optimizer.param_groups[:2] for each in group["params"]]
    assert not {id(each) for each in others} & {id(each) for each in own["params"]}
    same_rate = make_optimizer(module, training, OwnRates("fc."))
    assert [group["lr"] for group in same_rate.param_groups] == [0.3, 0.3, 0.3]
    assert len(make_optimizer(module, training, OwnRates("quantizers.")).param_groups) == 2
