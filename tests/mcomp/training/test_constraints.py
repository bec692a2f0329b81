from __future__ import annotations

import math

import torch

from mcomp.training.constraints import ZeroedWeights
from tests.mcomp.training.setting import SmallConvNet


def test_masked_weights_become_zero_and_the_others_stay() -> None:
    module = SmallConvNet()
    before = module.fc.weight.detach().clone()
    mask = torch.tensor([True, False, True, False]).expand(3, 4)
    ZeroedWeights(module, {"masks.fc.weight": mask, "quantizers.x.scale": torch.ones(1)}).apply()
    assert torch.equal(module.fc.weight.detach(), before.where(mask, 0))


def test_a_masked_weight_that_is_not_a_number_becomes_zero() -> None:
    module = SmallConvNet()
    module.fc.weight.data[0, 0] = math.nan
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[0, 0] = False
    ZeroedWeights(module, {"masks.fc.weight": mask}).apply()
    assert module.fc.weight[0, 0].item() == 0.0
