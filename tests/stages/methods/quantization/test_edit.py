"""Quantizers as an edit of a model."""

from __future__ import annotations

import pytest
import torch

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp_stages.methods.quantization.calibrate import with_moving_ranges
from mcomp_stages.methods.quantization.config import Activations
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.sites import WeightSite
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph
from tests.stages.methods.quantization.nets import float_model, pictures, quantized_model

EXAMPLE = pictures(2)


def trained_graph(model: Model) -> QuantizedGraph:
    graph = model.training_module(EXAMPLE)
    assert isinstance(graph, QuantizedGraph)
    return graph


def test_training_the_graph_trains_the_module_under_the_same_names() -> None:
    model = quantized_model(float_model())
    graph = trained_graph(model)
    names = [name for name, _ in model.module.named_parameters()]
    assert {name for name, _ in graph.named_parameters()} == set(names)
    assert all(graph.get_parameter(name) is model.module.get_parameter(name) for name in names)
    before = model.module.get_buffer("norm.running_mean").clone()
    graph.train()
    graph(**pictures()).square().mean().backward()
    assert all(model.module.get_parameter(name).grad is not None for name in names)
    assert not torch.equal(before, model.module.get_buffer("norm.running_mean"))
    graph.eval()
    still = model.module.get_buffer("norm.running_mean").clone()
    graph(**pictures())
    assert torch.equal(still, model.module.get_buffer("norm.running_mean"))


def test_ranges_are_written_back_and_come_back() -> None:
    model = with_moving_ranges(quantized_model(float_model()), num_steps=2)
    graph = trained_graph(model).train()
    graph(image=3 * pictures()["image"])
    after = model.with_trained(graph)
    name = "quantizers.#image.high"
    assert after.state[name] > model.state[name]
    assert after.state["quantizers.#add_0.updates_left"] == 1
    again = trained_graph(after).activation_quantizers()["#image"]
    assert torch.equal(again.high, after.state[name])


def test_the_edit_comes_back_from_json() -> None:
    (edit,) = quantized_model(float_model()).edits
    assert Quantizers.model_validate_json(edit.model_dump_json()) == edit


@pytest.mark.parametrize("site", ["#add_9", "conv#relu_0", "norm.weight9"])
def test_a_recorded_site_that_is_not_there_is_refused_by_name(site: str) -> None:
    model = float_model().edited(Quantizers(activations={site: Activations()}))
    with pytest.raises(StageError, match=rf"{site}.*no place in this model"):
        model.training_module(EXAMPLE)


def test_only_what_is_recorded_is_quantized() -> None:
    model = float_model().edited(Quantizers(weights={"conv.weight": WeightSite(bits=4)}))
    assert list(trained_graph(model).by_site()) == ["conv.weight"]


def test_a_stored_scale_starts_at_the_weights_range_and_is_used_from_the_state() -> None:
    site = WeightSite(bits=4, scale="stored")
    model = float_model().edited(Quantizers(weights={"fc.weight": site}))
    weight = model.module.get_parameter("fc.weight").detach()
    assert torch.allclose(model.state["quantizers.fc.weight.scale"], weight.abs().amax(1) / 7)
    assert model.state["quantizers.fc.weight.zero_point"].tolist() == [0] * 10
    model.state["quantizers.fc.weight.scale"].fill_(0.5)
    quantizer = trained_graph(model).weight_quantizers()["fc.weight"]
    steps = torch.round(weight / 0.5).clamp(-7, 7)
    assert torch.equal(quantizer(weight), steps * 0.5)
    assert torch.equal(quantizer.integers(weight).integers, steps.to(torch.int8))


def test_stored_scales_come_back_from_the_graph() -> None:
    site = WeightSite(scale="stored", symmetric=False)
    model = float_model().edited(Quantizers(weights={"fc.weight": site}))
    graph = trained_graph(model)
    graph.weight_quantizers()["fc.weight"].scale.mul_(2)
    after = model.with_trained(graph)
    name = "quantizers.fc.weight.scale"
    assert torch.equal(after.state[name], 2 * model.state[name])


def test_a_weight_that_is_not_there_is_refused_by_name() -> None:
    edit = Quantizers(weights={"conv9.weight": WeightSite()})
    with pytest.raises(ValueError, match=r"conv9\.weight"):
        float_model().edited(edit)


def test_nothing_but_training_is_legal_afterwards() -> None:
    model = quantized_model(float_model())
    with pytest.raises(ValueError, match="after quantizers"):
        model.edited(Quantizers())
