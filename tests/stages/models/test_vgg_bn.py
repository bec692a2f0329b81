from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mcomp.data.contract import DataFacts
from mcomp.errors import RecipeError
from mcomp_stages.models.vgg_bn import VGGConfig


def build(**fields: Any) -> nn.Module:
    return VGGConfig.model_validate({"type": "vgg_bn", "in_channels": 3, "num_classes": 10, **fields}).build()


def test_the_wide_head_has_the_parameters_of_torchvision() -> None:
    with torch.device("meta"):
        module = build(depth=16, num_classes=1000)
    assert sum(parameter.numel() for parameter in module.parameters()) == 138_365_992
    names = list(module.state_dict())
    assert names[0] == "features.0.weight"
    assert "features.41.running_var" in names  # the last of 13 batch norms
    assert names[-1] == "classifier.6.bias"


@pytest.mark.parametrize(("depth", "convolutions"), [(11, 8), (13, 10), (16, 13), (19, 16)])
def test_depth_counts_convolutions_and_three_linears(depth: int, convolutions: int) -> None:
    with torch.device("meta"):
        parts = list(build(depth=depth, width=4).modules())
    assert sum(isinstance(part, nn.Conv2d) for part in parts) == convolutions == depth - 3
    assert [part.out_channels for part in parts if isinstance(part, nn.Conv2d)][-1] == 32


@pytest.mark.parametrize("side", [1, 15, 16, 33])
def test_the_small_head_takes_images_of_any_size(side: int) -> None:
    module = build(depth=11, width=4, head="small").eval()
    assert module(torch.zeros(2, 3, side, side)).shape == (2, 10)
    assert sum(isinstance(part, nn.Linear) for part in module.modules()) == 1


def test_open_sizes_are_taken_from_the_data() -> None:
    with pytest.raises(RecipeError, match="in_channels and num_classes; set them"):
        VGGConfig().build()
    fitted = VGGConfig().fitted_to(DataFacts(channels=1, num_classes=7))
    assert (fitted.in_channels, fitted.num_classes) == (1, 7)
