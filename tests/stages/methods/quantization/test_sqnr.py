"""How much of each value's signal is left."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.sqnr import decibels, site_sqnr
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph
from tests.stages.methods.quantization.nets import (
    ChainNet,
    ResidualNet,
    float_model,
    pictures,
    quantized_model,
)

EXAMPLE = pictures(2)
BATCHES = [pictures(20), {"image": pictures(32)["image"][20:]}]


@pytest.mark.parametrize("net", [ResidualNet, ChainNet])
def test_the_output_has_the_ratio_of_the_two_models(net: type[nn.Module]) -> None:
    model = quantized_model(float_model(net))
    found = site_sqnr(model, model, EXAMPLE, BATCHES)
    with torch.no_grad():
        exact, rounded = model.module(**pictures()), model.training_module(EXAMPLE)(**pictures())
    slow = 10 * math.log10(exact.square().sum() / (rounded - exact).square().sum())
    assert found["output"] == pytest.approx(slow, abs=0.02)


def test_every_site_is_there_and_a_weight_has_the_ratio_of_its_rounding() -> None:
    model = quantized_model(float_model())
    graph = model.training_module(EXAMPLE)
    assert isinstance(graph, QuantizedGraph)
    found = site_sqnr(model, model, EXAMPLE, BATCHES)
    assert set(found) == {*graph.by_site(), "output"}
    weight = model.module.get_parameter("conv.weight").detach()
    noise = graph.weight_quantizers()["conv.weight"](weight) - weight
    slow = 10 * math.log10(weight.square().sum() / noise.square().sum())
    assert found["conv.weight"] == pytest.approx(slow, abs=0.02)


def test_a_bit_is_worth_six_decibels() -> None:
    ratios: list[float] = []
    for bits in (4, 6, 8):
        scheme = Scheme.model_validate({"activations": {"bits": bits}})
        model = quantized_model(float_model(), scheme=scheme)
        ratios.append(site_sqnr(model, model, EXAMPLE, BATCHES)["#image"] or 0.0)
    assert ratios[1] - ratios[0] == pytest.approx(12.04, abs=0.7)
    assert ratios[2] - ratios[1] == pytest.approx(12.04, abs=0.7)


def test_nothing_lost_and_nothing_there_have_no_ratio() -> None:
    assert decibels(1.0, 0.0) is None
    assert decibels(0.0, 0.0) is None
    assert decibels(100.0, 1.0) == 20.0
