"""Ranges shared out between layers; the network computes the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp_stages.methods.quantization import equalize
from mcomp_stages.methods.quantization.equalize import by_input_channel, equalized, from_input_channel
from tests.stages.methods.quantization.nets import (
    NetConfig,
    ResidualNet,
    float_model,
    pictures,
    with_statistics,
)


class Chain(nn.Module):
    """Convolutions, one depthwise, with norms; max-pooling, a pad, flatten and linears."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.point = nn.Conv2d(8, 4, 1)
        self.fc1 = nn.Linear(4 * 49, 16)
        self.fc2 = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.conv(functional.pad(image, (1, 1, 1, 1)))))
        x = functional.relu(self.depthwise(x), inplace=True)
        x = functional.max_pool2d(functional.relu(self.point(x)), 2).flatten(1)
        logits: Tensor = self.fc2(functional.relu(self.fc1(x)))
        return logits


class Others(nn.Module):
    """What passes no factor on, or belongs to two: ReLU6, a residual, groups, a layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 8, 3, padding=1)
        self.groups = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.relu6(self.first(image))
        y = functional.relu(self.second(x)) + x
        y = functional.relu(self.third(y))
        y = functional.relu(self.groups(y))
        y = functional.hardswish(self.last(y))
        return y.mean((2, 3))


class Curved(nn.Module):
    """A sigmoid between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.second(torch.sigmoid(10 * self.first(image))).mean((2, 3))  # type: ignore[no-any-return]


def model_of(net: type[nn.Module], seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return Model(with_statistics(net(), seed).eval(), NetConfig())


def test_the_pairs_of_a_chain_are_found_and_the_output_is_the_same() -> None:
    model, inputs = model_of(Chain), pictures(8)
    changed, factors = equalized(model, inputs)
    assert list(factors) == [
        "conv -> depthwise",
        "depthwise -> point",
        "point -> fc1",
        "fc1 -> fc2",
    ]
    assert all(factor > 1.05 for factor in factors.values())
    torch.testing.assert_close(changed.module(**inputs), model.module(**inputs), rtol=1e-4, atol=1e-5)


def test_both_layers_of_a_pair_have_equal_ranges_afterwards() -> None:
    changed, _ = equalized(model_of(Chain), pictures(2))
    weights = changed.module.state_dict()
    sigma = (weights["norm.running_var"] + 1e-5).sqrt()
    folded = weights["conv.weight"].flatten(1).abs().amax(1) * weights["norm.weight"].abs() / sigma
    depthwise = weights["depthwise.weight"].flatten(1).abs().amax(1)
    torch.testing.assert_close(folded, depthwise, rtol=0.03, atol=0)
    torch.testing.assert_close(
        depthwise, weights["point.weight"].abs().amax(dim=(0, 2, 3)), rtol=0.03, atol=0
    )
    columns = weights["fc1.weight"].reshape(16, 4, 49).abs().amax(dim=(0, 2))
    torch.testing.assert_close(weights["point.weight"].flatten(1).abs().amax(1), columns, rtol=0.03, atol=0)


@settings(max_examples=4, deadline=None)
@given(
    gain=st.lists(st.floats(0.01, 100), min_size=8, max_size=8), seed=st.integers(0, 3), flip=st.booleans()
)
def test_a_planted_factor_is_found_whatever_it_is(gain: list[float], seed: int, flip: bool) -> None:
    plain, planted = model_of(Chain, seed), model_of(Chain, seed)
    factor = torch.tensor(gain)
    with torch.no_grad():
        module = planted.module
        if flip:  # a negative gain keeps its sign
            for each in (plain.module, module):
                each.norm.weight.neg_()  # type: ignore[union-attr, operator]
        module.norm.weight.mul_(factor)  # type: ignore[union-attr, operator]
        module.norm.bias.mul_(factor)  # type: ignore[union-attr, operator]
        module.depthwise.weight.div_(factor[:, None, None, None])  # type: ignore[union-attr, operator]
    (one, _), (other, _) = equalized(plain, pictures(2)), equalized(planted, pictures(2))
    for name, tensor in one.module.state_dict().items():
        torch.testing.assert_close(other.module.state_dict()[name], tensor, rtol=0.05, atol=1e-4)


def test_what_passes_no_factor_on_is_left_alone() -> None:
    model = model_of(Others)
    changed, factors = equalized(model, pictures(2))
    assert list(factors) == ["groups -> last"]
    for name in ("first.weight", "second.weight", "third.weight"):
        assert torch.equal(changed.module.get_parameter(name), model.module.get_parameter(name))


def test_a_residual_block_is_equalised_inside_alone() -> None:
    model = float_model(ResidualNet)
    changed, factors = equalized(model, pictures(2))
    assert factors == {}
    for name, tensor in model.module.state_dict().items():
        assert torch.equal(changed.module.state_dict()[name], tensor)


def test_channels_that_nobody_makes_or_reads_stay_as_they_are() -> None:
    model = model_of(Chain)
    with torch.no_grad():
        model.module.norm.weight[0] = 0  # type: ignore[union-attr, index]
        model.module.point.weight[:, 3] = 0  # type: ignore[union-attr, index]
    changed, _ = equalized(model, pictures(2))
    assert all(torch.isfinite(tensor).all() for tensor in changed.module.state_dict().values())
    assert changed.module.norm.bias[0] == model.module.norm.bias[0]  # type: ignore[union-attr, index]
    torch.testing.assert_close(
        changed.module(**pictures(4)), model.module(**pictures(4)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((6, 4, 3, 3), 4), ((8, 1, 3, 3), 8), ((5, 12), 12), ((5, 12), 4), ((1, 1, 3, 3), 1)],
)
def test_rows_of_input_channels_are_put_back_where_they_were(shape: tuple[int, ...], channels: int) -> None:
    weight = torch.randn(shape)
    rows = by_input_channel(weight, channels)
    assert rows.shape == (channels, weight.numel() // channels)
    assert torch.equal(from_input_channel(rows, weight), weight)


def test_a_copy_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equalize, "passes_factors", lambda node: True)
    with pytest.raises(StageError, match="equalised, the float model's output differs"):
        equalized(model_of(Curved), pictures(2))
