from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from mcomp.data.contract import DataFacts
from mcomp.errors import RecipeError
from mcomp_stages.models.mobilenet_v2 import MobileNetV2Config
from mcomp_stages.models.mobilenet_v2_module import InvertedResidual, rounded


def build(**fields: Any) -> nn.Module:
    return MobileNetV2Config.model_validate(
        {"type": "mobilenet_v2", "in_channels": 3, "num_classes": 10, **fields}
    ).build()


def test_it_has_the_parameters_of_torchvision() -> None:
    module = build(num_classes=1000)
    assert sum(parameter.numel() for parameter in module.parameters()) == 3_504_872
    names = list(module.state_dict())
    assert names[0] == "features.0.0.weight"
    assert "features.1.conv.1.weight" in names  # the first block does not expand
    assert "features.18.1.running_var" in names
    assert names[-1] == "classifier.1.bias"


def test_blocks_expand_and_halve_as_table_2_says() -> None:
    blocks = [part for part in build().modules() if isinstance(part, InvertedResidual)]
    depthwise = [next(part for part in block.modules() if is_depthwise(part)) for block in blocks]
    assert [part.stride[0] for part in depthwise] == [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
    expanded = [32, 96, *[144] * 2, *[192] * 3, *[384] * 4, *[576] * 3, *[960] * 3]
    assert [part.out_channels for part in depthwise] == expanded
    assert sum(block.adds for block in blocks) == 10


def is_depthwise(part: nn.Module) -> bool:
    return isinstance(part, nn.Conv2d) and part.groups == part.in_channels > 1


@pytest.mark.parametrize(("stem", "size"), [("imagenet", 2), ("small", 8)])
def test_the_small_stem_leaves_more_of_a_small_image(stem: str, size: int) -> None:
    features = build(stem=stem, width=0.25).eval().get_submodule("features")
    with torch.no_grad():
        assert features(torch.zeros(1, 3, 64, 64)).shape[-2:] == (size, size)


def test_the_width_multiplies_every_layer_but_the_last_only_grows() -> None:
    narrow, wide = build(width=0.5), build(width=2.0)
    for module, stem, last in ((narrow, 16, 1280), (wide, 64, 2560)):
        assert module.get_parameter("features.0.0.weight").shape[0] == stem
        assert module.get_parameter("classifier.1.weight").shape[1] == last


@given(st.floats(min_value=0.1, max_value=4000))
def test_channels_are_the_nearest_multiple_of_8_that_keeps_nine_tenths(channels: float) -> None:
    found = rounded(channels)
    multiples = range(8, 4100, 8)
    nearest = min(multiples, key=lambda each: (abs(each - channels), -each))
    allowed = [each for each in multiples if each >= 0.9 * channels]
    assert found == (nearest if nearest in allowed else allowed[0])


def test_open_sizes_come_from_the_data_and_given_ones_stay() -> None:
    fitted = MobileNetV2Config(in_channels=3).fitted_to(DataFacts(channels=1, num_classes=10))
    assert (fitted.in_channels, fitted.num_classes) == (3, 10)
    with pytest.raises(RecipeError, match="does not say in_channels and num_classes"):
        MobileNetV2Config().fitted_to(DataFacts()).build()


@pytest.mark.parametrize("wrong", [{"width": 0}, {"width": 5.0}, {"stem": "none"}, {"dropout": 1.0}])
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MobileNetV2Config.model_validate({"type": "mobilenet_v2", **wrong})
