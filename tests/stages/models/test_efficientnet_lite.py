from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mcomp.data.contract import DataFacts
from mcomp.errors import RecipeError
from mcomp_stages.models.efficientnet_lite import EfficientNetLiteConfig
from mcomp_stages.models.efficientnet_lite_module import MBConv, SameConv2d


def build(**fields: Any) -> nn.Module:
    return EfficientNetLiteConfig.model_validate(
        {"type": "efficientnet_lite", "in_channels": 3, "num_classes": 1000, **fields}
    ).build()


@pytest.mark.parametrize(
    ("variant", "parameters", "blocks"),
    [("lite0", 4_652_008, 16), ("lite1", 5_416_680, 21), ("lite2", 6_092_072, 21)],
)
def test_it_has_the_parameters_of_the_published_weights(variant: str, parameters: int, blocks: int) -> None:
    module = build(variant=variant)
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters
    names = list(module.state_dict())
    assert names[0] == "_conv_stem.weight"
    assert "_blocks.0._depthwise_conv.weight" in names
    assert "_blocks.0._expand_conv.weight" not in names  # the first block does not expand
    assert f"_blocks.{blocks - 1}._bn2.running_var" in names
    assert f"_blocks.{blocks}._bn2.running_var" not in names
    assert names[-2:] == ["_fc.weight", "_fc.bias"]


def test_blocks_expand_and_halve_as_table_1_says() -> None:
    blocks = [part for part in build().modules() if isinstance(part, MBConv)]
    strides = [block._depthwise_conv.stride[0] for block in blocks]
    kernels = [block._depthwise_conv.kernel_size[0] for block in blocks]
    assert strides == [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    assert kernels == [3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3]
    assert sum(block.adds for block in blocks) == 9


def same_by_hand(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """One output at a time: what is outside of the image is zero, and the window's surplus is at the end."""
    size, kernel = x.shape[-1], weight.shape[-1]
    outputs = -(-size // stride)
    before = max((outputs - 1) * stride + kernel - size, 0) // 2
    y = torch.zeros(outputs, outputs)
    for row in range(outputs):
        for column in range(outputs):
            for i in range(kernel):
                for j in range(kernel):
                    at = (row * stride + i - before, column * stride + j - before)
                    if all(0 <= place < size for place in at):
                        y[row, column] += x[0, 0, at[0], at[1]] * weight[0, 0, i, j]
    return y


@given(st.integers(2, 9), st.sampled_from([1, 3, 5]), st.integers(1, 2))
def test_padding_is_tensorflows_at_every_size(size: int, kernel: int, stride: int) -> None:
    convolution = SameConv2d(1, 1, kernel, stride)
    x = torch.randn(1, 1, size, size, generator=torch.Generator().manual_seed(size))
    with torch.no_grad():
        y = convolution(x)
    assert torch.allclose(y[0, 0], same_by_hand(x, convolution.weight, stride), atol=1e-5)


def test_open_sizes_are_taken_from_the_data() -> None:
    config = EfficientNetLiteConfig(num_classes=1000)
    with pytest.raises(RecipeError, match="in_channels and num_classes; set them"):
        config.build()
    fitted = config.fitted_to(DataFacts(channels=1, image_size=32, num_classes=7))
    assert (fitted.in_channels, fitted.num_classes) == (1, 1000)
