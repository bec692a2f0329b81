"""Outliers of inputs moved into weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp.stage import Checkpoint, Unit, at_once
from mcomp_stages.methods.quantization.calibrate import calibrated
from mcomp_stages.methods.quantization.observers.config import MinMax
from mcomp_stages.methods.quantization.post_training.smooth import smoothed
from mcomp_stages.methods.quantization.scheme import quantizers_for
from tests.mcomp.training.checkpoints import Crash, Memory
from tests.mcomp.training.setting import make_context, same
from tests.stages.methods.quantization.nets import ChainNet, NetConfig, ResidualNet, float_model

WIDTH = 12


class Norms(nn.Module):
    """A norm that two linears read, one that is read beside a shortcut, and linears with a ReLU between."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.query, self.key = nn.Linear(WIDTH, 8), nn.Linear(WIDTH, 8, bias=False)
        self.norm2 = nn.LayerNorm(8)
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, image: Tensor) -> Tensor:
        x = self.norm1(image)
        x = self.norm2(self.query(x) * self.key(x).sigmoid())
        y: Tensor = x + self.fc2(functional.relu(self.fc1(x)))
        return y


def rows(num: int = 64, seed: int = 0) -> dict[str, Tensor]:
    return {"image": torch.randn(num, WIDTH, generator=torch.Generator().manual_seed(seed))}


EXAMPLE = rows(2)


def model_with_outlier(gain: float = 30.0) -> Model:
    torch.manual_seed(0)
    model = Model(Norms().eval(), NetConfig())
    with torch.no_grad():
        model.module.get_parameter("norm1.weight")[3] = gain
        model.module.get_parameter("norm1.bias").uniform_(-1, 1)
    return model


def output(model: Model) -> Tensor:
    with torch.no_grad():
        answer: Tensor = model.module(**rows())
        return answer


@settings(max_examples=10, deadline=None)
@given(strength=st.floats(0, 1))
def test_the_float_model_computes_the_same_with_any_strength(strength: float) -> None:
    model = model_with_outlier()
    changed, strengths = smoothed(model, EXAMPLE, [rows()], strength, 8)
    torch.testing.assert_close(output(changed), output(model), rtol=1e-4, atol=1e-4)
    assert strengths == {"norm1": strength, "fc1": strength}


def test_the_factors_are_those_of_the_paper() -> None:
    model = model_with_outlier()
    changed, _ = smoothed(model, EXAMPLE, [rows(40), rows(24, seed=1)], 0.7, 8)
    seen = torch.cat([rows(40)["image"], rows(24, seed=1)["image"]])
    module = model.module
    assert isinstance(module, Norms)
    x_NK = module.norm1(seen).detach()
    weight_OK = torch.cat([module.query.weight, module.key.weight]).detach()
    slow = [
        float(max(abs(v) for v in x_NK[:, k].tolist())) ** 0.7
        / float(max(abs(v) for v in weight_OK[:, k].tolist())) ** 0.3
        for k in range(WIDTH)
    ]
    factor = changed.module.get_parameter("key.weight") / module.key.weight
    relative = factor[0] / factor[0, 0]  # but for one common factor
    torch.testing.assert_close(relative.detach(), torch.tensor(slow) / slow[0], rtol=1e-3, atol=1e-4)


def test_what_something_else_reads_stays_as_it_is() -> None:
    model = model_with_outlier()
    changed, _ = smoothed(model, EXAMPLE, [rows()], 0.7, 8)
    assert torch.equal(
        changed.module.get_parameter("norm2.weight"), model.module.get_parameter("norm2.weight")
    )
    assert not torch.equal(
        changed.module.get_parameter("fc1.weight"), model.module.get_parameter("fc1.weight")
    )


def quantized_error(model: Model, exact: Tensor) -> float:
    edited = model.edited(quantizers_for(model.module, EXAMPLE))
    ready = calibrated(edited, EXAMPLE, [rows()], MinMax())
    with torch.no_grad():
        return float((ready.training_module(EXAMPLE)(**rows()) - exact).square().mean())


def test_an_outlier_costs_less_and_the_strength_is_found() -> None:
    model = model_with_outlier()
    changed, strengths = smoothed(model, EXAMPLE, [rows()], None, 8)
    assert strengths["norm1"] > 0
    assert quantized_error(changed, output(model)) < 0.5 * quantized_error(model, output(model))


def test_an_input_that_gains_nothing_stays_as_it_is() -> None:
    model = model_with_outlier(gain=1.0)
    changed, strengths = smoothed(model, EXAMPLE, [rows()], None, 8)
    assert strengths["norm1"] == 0.0
    assert torch.equal(
        changed.module.get_parameter("query.weight"), model.module.get_parameter("query.weight")
    )


def test_linears_alone_are_smoothed_and_a_model_without_is_an_error() -> None:
    image = {"image": torch.randn(2, 3, 16, 16)}
    _, strengths = smoothed(float_model(ChainNet), image, [image], 0.5, 8)
    assert list(strengths) == ["fc1"]
    with pytest.raises(StageError, match=r"no linear reads a norm's output.*leave smoothquant out"):
        smoothed(float_model(ResidualNet), image, [image], 0.5, 8)


def test_an_input_that_is_not_finite_names_what_gives_it() -> None:
    image = rows()["image"]
    image[0, 0] = float("inf")
    with pytest.raises(StageError, match="norm1: its inputs are not finite"):
        smoothed(model_with_outlier(), EXAMPLE, [{"image": image}], 0.5, 8)


@pytest.mark.parametrize("num_done", [0, 1])
def test_the_search_goes_on_at_the_input_where_it_was_killed(num_done: int) -> None:
    """The samples are looked at once, and every input on its own."""
    context = replace(make_context(), checkpoints=Memory())

    def search(unit: Unit) -> tuple[Model, dict[str, float]]:
        return smoothed(model_with_outlier(), EXAMPLE, [rows()], None, 8, unit)

    def killed(label: str, compute: Callable[[], Checkpoint]) -> Checkpoint:
        if label == f"smoothing-{num_done}":
            raise Crash
        return context.unit(label, compute)

    with pytest.raises(Crash):
        search(killed)
    computed: list[str] = []

    def counted(label: str, compute: Callable[[], Checkpoint]) -> Checkpoint:
        return context.unit(label, lambda: (computed.append(label), compute())[1])

    changed, strengths = search(counted)
    whole, found = search(at_once)
    assert computed == [f"smoothing-{number}" for number in range(num_done, len(strengths))]
    assert strengths == found
    assert same(changed.module.state_dict(), whole.module.state_dict())
