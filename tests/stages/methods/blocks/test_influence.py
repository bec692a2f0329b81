"""What blocks are worth, against slow and obvious ways."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mcomp_stages.methods.blocks.blocks import removable_blocks
from mcomp_stages.methods.blocks.influence import BLOCK_IMPORTANCE, Witness, one_minus_cosine
from mcomp_stages.models.resnet import ResNetConfig
from tests.architectures import example


def witness(module: nn.Module) -> Witness:
    return Witness(
        module,
        lambda: [example(), {"image": example()["image"].flip(0)[:1]}],
        lambda module: float(module(**example()).square().mean()),
        torch.Generator().manual_seed(0),
    )


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return ResNetConfig(depth=20, width=4, in_channels=3, num_classes=5).build().eval().requires_grad_(False)


def slow_influence(module: nn.Module, path: str) -> float:
    """Each pixel of each sample by itself, one number after the other."""
    values = []
    for inputs in witness(module).calibration():
        with torch.no_grad():
            x = torch.relu(module.bn1(module.conv1(inputs["image"])))  # type: ignore[operator]
            for stage in ("layer1", "layer2", "layer3"):
                for number, block in enumerate(module.get_submodule(stage).children()):
                    y = block(x)
                    if f"{stage}.{number}" == path:
                        values += map(change, pixels(x), pixels(y))
                    x = y
    return sum(values) / len(values)


def pixels(x: torch.Tensor) -> list[list[float]]:
    found: list[list[float]] = x.permute(0, 2, 3, 1).flatten(0, 2).tolist()
    return found


def change(a: list[float], b: list[float]) -> float:
    if not any(a) and not any(b):
        return 0.0
    lengths = math.sqrt(dot(a, a) * dot(b, b))
    return 1 - dot(a, b) / lengths if lengths else 1.0


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_influence_is_one_minus_the_cosine_of_each_pixel(module: nn.Module) -> None:
    blocks = removable_blocks(module, example())
    scores = BLOCK_IMPORTANCE["influence"](blocks, witness(module))
    for path in ("layer1.0", "layer3.2"):
        assert scores[path] == pytest.approx(slow_influence(module, path), abs=1e-5)


@given(st.floats(0.1, 10), st.integers(0, 99))
def test_a_block_that_only_scales_has_no_influence(scale: float, seed: int) -> None:
    given_N8 = torch.randn(5, 8, generator=torch.Generator().manual_seed(seed))
    assert one_minus_cosine(given_N8, given_N8 * scale).abs().max() < 1e-6
    assert one_minus_cosine(given_N8, -given_N8).sub(2).abs().max() < 1e-6


def test_nothing_that_becomes_nothing_is_no_change() -> None:
    assert one_minus_cosine(torch.zeros(1, 4), torch.zeros(1, 4)).tolist() == [0.0]


def test_magnitude_is_the_mean_of_the_absolute_weights(module: nn.Module) -> None:
    block = module.get_submodule("layer1.1")
    numbers = [
        number
        for name in ("conv1", "conv2")
        for number in block.get_parameter(f"{name}.weight").flatten().tolist()
    ]
    expected = sum(map(abs, numbers)) / len(numbers)
    scores = BLOCK_IMPORTANCE["magnitude"](removable_blocks(module, example()), witness(module))
    assert scores["layer1.1"] == pytest.approx(expected)


def test_a_trial_is_the_loss_without_the_block_and_leaves_no_trace(module: nn.Module) -> None:
    before = module(**example())
    scores = BLOCK_IMPORTANCE["trial"](removable_blocks(module, example()), witness(module))
    assert torch.equal(module(**example()), before)
    x = torch.relu(module.bn1(module.conv1(example()["image"])))  # type: ignore[operator]
    for stage in ("layer1", "layer2", "layer3"):
        for number, block in enumerate(module.get_submodule(stage).children()):
            x = x if (stage, number) == ("layer2", 1) else block(x)
    expected = module.get_submodule("fc")(x.mean((2, 3))).square().mean()
    assert scores["layer2.1"] == pytest.approx(float(expected), rel=1e-5)


def test_the_control_depends_on_the_seed_alone(module: nn.Module) -> None:
    blocks = removable_blocks(module, example())
    first, second = (BLOCK_IMPORTANCE["random"](blocks, witness(module)) for _ in range(2))
    assert first == second
    assert len(set(first.values())) == len(blocks)
