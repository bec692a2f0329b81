"""What each layer alone costs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mcomp.measure.sqnr import LARGEST_DB, outputs, sqnr_db
from mcomp.model.model import Model
from mcomp_stages.methods.quantization.config import Scheme
from mcomp_stages.methods.quantization.edit import Quantizers
from mcomp_stages.methods.quantization.sensitivity import layer_figures, only, quantized_units
from mcomp_stages.methods.quantization.training_graph import QuantizedGraph
from tests.architectures import TiedNet
from tests.stages.methods.quantization.nets import (
    NetConfig,
    float_model,
    pictures,
    quantized_model,
)

INPUTS = pictures()
EXAMPLE = {name: tensor[:2] for name, tensor in INPUTS.items()}


def graph_of(model: Model) -> QuantizedGraph:
    graph = model.training_module(EXAMPLE)
    assert isinstance(graph, QuantizedGraph)
    return graph


def output(module: nn.Module) -> Tensor:
    with torch.no_grad():
        result: Tensor = module(**INPUTS)
    return result


def with_these_alone(original: Model, quantized: Model, sites: tuple[str, ...]) -> Tensor:
    """The slow way: a model that has no other quantizers, with the same ranges."""
    edit = quantized.edits[-1]
    assert isinstance(edit, Quantizers)
    alone = original.edited(
        Quantizers(
            activations={site: grid for site, grid in edit.activations.items() if site in sites},
            weights={
                name: site.model_copy(update={"inputs": ()})
                for name, site in edit.weights.items()
                if name in sites
            },
        )
    )
    alone.state.update({name: quantized.state[name] for name in alone.state})
    return output(alone.training_module(EXAMPLE))


def test_a_unit_alone_computes_what_a_model_without_other_quantizers_does() -> None:
    original = float_model()
    quantized = quantized_model(original, INPUTS)
    graph = graph_of(quantized)
    units = quantized_units(quantized, graph)
    for unit in units:
        with only(graph, unit.sites):
            assert torch.equal(output(graph), with_these_alone(original, quantized, unit.sites))
    assert [unit.name for unit in units] == [
        "stem", "conv", "shortcut", "fc", "conv#conv2d_0", "shortcut#conv2d_0", "#add_0",
    ]  # fmt: skip
    assert units[1].layers == ("conv",)
    assert units[1].sites == ("stem#conv2d_0", "conv.weight")


def test_behind_the_block_all_quantizers_are_where_they_were() -> None:
    quantized = quantized_model(float_model(), INPUTS)
    graph = graph_of(quantized)
    before, places = output(graph), graph.by_site()
    with only(graph, ()):
        assert not torch.equal(output(graph), before)
    assert torch.equal(output(graph), before)
    assert graph.by_site() == places


def test_without_any_quantizer_the_graph_computes_in_float() -> None:
    original = float_model()
    graph = graph_of(quantized_model(original, INPUTS))
    with only(graph, ()):
        assert sqnr_db(output(original.module), output(graph)) > 100


def test_the_layer_with_the_fewest_bits_costs_the_most() -> None:
    original = float_model()
    narrow = Scheme.model_validate({"overrides": [{"modules": "conv", "weights": {"bits": 2}}]})
    quantized = quantized_model(original, INPUTS, narrow)
    (expected,) = outputs(original.module, [INPUTS])
    figures = layer_figures(quantized, EXAMPLE, lambda module: sqnr_db(expected, output(module)))
    assert min(figures, key=lambda name: figures[name]) == "conv"
    assert all(0 < figure < LARGEST_DB for figure in figures.values())


def test_units_can_be_chosen_and_know_their_bits() -> None:
    quantized = quantized_model(float_model(), INPUTS, Scheme.model_validate({"weights": {"bits": 4}}))
    units = [unit for unit in quantized_units(quantized, graph_of(quantized)) if unit.layers]
    assert {unit.bits for unit in units} == {4}
    assert list(layer_figures(quantized, EXAMPLE, lambda module: 1.0, units[:2])) == ["stem", "conv"]
    assert layer_figures(quantized, EXAMPLE, lambda module: 1.0, ()) == {}


def test_layers_that_share_a_weight_are_one_unit() -> None:
    torch.manual_seed(0)
    original = Model(TiedNet().eval(), NetConfig())
    quantized = quantized_model(original, INPUTS)
    names = [unit.layers for unit in quantized_units(quantized, graph_of(quantized)) if unit.layers]
    assert names == [("stem",), ("first", "second"), ("head",)]
