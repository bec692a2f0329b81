from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from mcomp.data.contract import DataFacts
from mcomp.errors import RecipeError
from mcomp_stages.models.resnet import ResNetConfig
from mcomp_stages.models.resnet_module import PadShortcut


def build(depth: int, *, num_classes: int = 10, **fields: Any) -> nn.Module:
    torch.manual_seed(0)
    config = {"depth": depth, "in_channels": 3, "num_classes": num_classes, **fields}
    return ResNetConfig.model_validate(config).build()


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("depth", "expected"), [(20, 0.27e6), (32, 0.46e6), (44, 0.66e6), (56, 0.85e6), (110, 1.7e6)]
)
def test_cifar_family_has_the_papers_sizes(depth: int, expected: float) -> None:
    assert num_parameters(build(depth, shortcut="pad")) == pytest.approx(expected, rel=0.03)


# The sizes that torchvision documents for its weights.
@pytest.mark.parametrize(("depth", "expected"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)])
def test_imagenet_family_has_torchvisions_sizes(depth: int, expected: int) -> None:
    assert num_parameters(build(depth, num_classes=1000)) == expected


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_depth_counts_the_layers_on_the_longest_path(depth: int) -> None:
    module = build(depth, width=4, shortcut="pad")
    layers = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth


@pytest.mark.parametrize(("depth", "fields"), [(20, {}), (20, {"shortcut": "pad"}), (18, {}), (50, {})])
def test_output_is_one_logit_a_class(depth: int, fields: dict[str, str]) -> None:
    module = build(depth, width=8, num_classes=7, **fields).eval()
    image = torch.randn(2, 3, 32, 32)
    assert module(image=image).shape == (2, 7)


def test_modules_are_named_as_in_torchvision() -> None:
    names = set(build(18, width=8).state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight", "fc.bias"} <= names
    assert {"layer2.0.downsample.0.weight", "layer2.0.downsample.1.weight", "layer4.1.bn2.bias"} <= names


def test_widths_double_from_stage_to_stage() -> None:
    module = build(20, width=12)
    widths = [module.get_parameter(f"layer{stage}.0.conv1.weight").shape[0] for stage in (1, 2, 3)]
    assert widths == [12, 24, 48]


def test_padded_shortcut_subsamples_and_puts_zeros_on_both_sides() -> None:
    x = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 4, 4)
    y = PadShortcut(3, 6, 2)(x)
    assert torch.equal(y[:, 1:4], x[:, :, ::2, ::2])
    assert not y[:, [0, 4, 5]].any()


def test_weights_start_as_he_says() -> None:
    weight = build(20, width=64).get_parameter("layer3.2.conv2.weight")
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.02)


def test_padded_shortcuts_belong_to_the_cifar_family() -> None:
    with pytest.raises(ValidationError, match="20, 32, 44, 56, 110"):
        ResNetConfig(depth=18, shortcut="pad")


@pytest.mark.parametrize("wrong", [{"depth": 19}, {"width": 0}, {"shortcut": "none"}, {"num_classes": 0}])
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ResNetConfig.model_validate(wrong)


def test_open_sizes_come_from_the_data_and_given_ones_stay() -> None:
    facts = DataFacts(channels=1, num_classes=10)
    fitted = ResNetConfig(in_channels=3).fitted_to(facts)
    assert (fitted.in_channels, fitted.num_classes) == (3, 10)
    with pytest.raises(RecipeError, match="does not say in_channels and num_classes"):
        ResNetConfig().fitted_to(DataFacts()).build()


def test_spec_rebuilds_the_same_architecture() -> None:
    config = ResNetConfig(depth=20, width=8, in_channels=1, num_classes=4, checkpoint="weights.safetensors")
    rebuilt = ResNetConfig.model_validate(config.spec())
    assert rebuilt.checkpoint is None
    assert list(rebuilt.build().state_dict()) == list(config.build().state_dict())
