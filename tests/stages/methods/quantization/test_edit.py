"""Quantizers as an edit of a model."""

from __future__ import annotations

import pytest
import torch

from mcomp.errors import StageError
from mcomp.model.model import Model
from mcomp_stages.methods.quantization.calibrate import quantizers_for, with_moving_ranges
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph
from tests.stages.methods.quantization.nets import ResidualNet, float_model, pictures, quantized_model

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


def test_other_sites_than_the_recorded_ones_are_refused_by_name() -> None:
    model = quantized_model(float_model())
    (edit,) = model.edits
    assert isinstance(edit, Quantizers)
    fewer = edit.model_copy(update={"activations": edit.activations[:-1]})
    with pytest.raises(StageError, match=r"#mean_0.*0 gone, 1 new"):
        fewer.training_module(model, EXAMPLE)


def test_a_weight_that_is_not_there_is_refused_by_name() -> None:
    edit = Quantizers(activations=(), weights=("conv9.weight",))
    with pytest.raises(ValueError, match=r"conv9\.weight"):
        float_model().edited(edit)


def test_nothing_but_training_is_legal_afterwards() -> None:
    model = quantized_model(float_model())
    with pytest.raises(ValueError, match="after quantizers"):
        model.edited(Quantizers(activations=(), weights=()))


def test_patterns_keep_layers_in_float() -> None:
    edit = quantizers_for(ResidualNet(), EXAMPLE, ("s*",))
    assert edit.keep_float == ("stem", "shortcut")
    assert edit.weights == ("conv.weight", "fc.weight")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("convs", "did you mean 'conv'"), ("norm", "nothing to quantize"), ("*", "no conv")],
)
def test_patterns_that_choose_nothing_or_everything_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(StageError, match=message):
        quantizers_for(ResidualNet(), EXAMPLE, (pattern,))
