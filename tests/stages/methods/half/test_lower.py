"""The graph of a model in 16 bits: what is converted where, and what it computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule

from mcomp.measure.sqnr import sqnr_db
from mcomp.model.graph import module_path
from mcomp.model.model import Model
from mcomp_stages.methods.half.choice import half_weights
from mcomp_stages.methods.half.edit import HalfType, HalfWeights
from mcomp_stages.methods.half.proof import require_near
from mcomp_stages.methods.quantization.training_graph import canonical_graph
from tests.stages.methods.quantization.nets import float_model, pictures

INPUTS = pictures()
EXAMPLE = {name: tensor[:2] for name, tensor in INPUTS.items()}


def halved(model: Model, dtype: HalfType = "float16", activations: bool = False, *keep: str) -> Model:
    weights, kept = half_weights(model.module, keep)
    return model.edited(HalfWeights(dtype=dtype, weights=weights, activations=activations, keep_float=kept))


def served(model: Model) -> GraphModule:
    graph = model.inference_module(EXAMPLE)
    assert isinstance(graph, GraphModule)
    return graph


def output(module: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        result: Tensor = module(**INPUTS)
    return result


def types_by_call(graph: GraphModule) -> dict[str, torch.dtype]:
    """Return the type in which each call computes, by running it."""
    found: dict[str, torch.dtype] = {}

    class Types(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            value = super().run_node(n)
            if n.op == "call_function" and not n.name.startswith("to"):
                found[f"{module_path(n)}#{n.name.rstrip('_0123456789')}"] = value.dtype
            return value

    with torch.no_grad():
        Types(graph).run(INPUTS["image"])
    return found


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 11), ("bfloat16", 8)])
def test_the_module_computes_with_the_rounded_weights(dtype: HalfType, digits: int) -> None:
    original = float_model()
    model = halved(original, dtype)
    for name, weight in model.module.named_parameters():
        expected = original.module.get_parameter(name)
        if weight.ndim > 1:
            # To nearest: at most half a unit in the last digit, of numbers that are not tiny.
            error = ((weight - expected).abs() / expected.abs().clamp(min=1e-3)).max()
            assert 0 < error <= 2.0**-digits
        else:
            assert torch.equal(weight, expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_stored_in_half_the_graph_computes_what_the_module_does(dtype: HalfType) -> None:
    model = halved(float_model(), dtype)
    assert set(types_by_call(served(model)).values()) == {torch.float32}
    assert sqnr_db(output(model.module.eval()), output(served(model))) > 120


def test_computing_in_half_norms_and_means_stay_in_float() -> None:
    types = types_by_call(served(halved(float_model(), "float16", True)))
    in_half = {name for name, dtype in types.items() if dtype == torch.float16}
    assert {"stem#conv2d", "conv#conv2d", "shortcut#conv2d", "fc#linear", "#add"} <= in_half
    assert types["norm#batch_norm"] == types["norm2#batch_norm"] == torch.float32
    assert types["#mean_dim"] == torch.float32


def test_a_module_that_is_kept_stays_in_float() -> None:
    model = halved(float_model(), "float16", True, "conv", "fc")
    types = types_by_call(served(model))
    assert types["conv#conv2d"] == types["fc#linear"] == torch.float32
    assert types["stem#conv2d"] == torch.float16
    assert "half.conv.weight" not in model.state
    assert "half.stem.weight" in model.state


def test_computing_in_half_is_near_the_float_model_and_gives_floats() -> None:
    original = float_model()
    given = output(served(halved(original, "float16", True)))
    assert given.dtype == torch.float32
    assert 50 < sqnr_db(output(original.module), given) < 100


def test_each_conversion_stands_once() -> None:
    graph = served(halved(float_model(), "float16", True)).graph
    made = [(node.args[0], node.args[1]) for node in graph.nodes if node.target is torch.ops.aten.to.dtype]
    assert len(made) == len(set(made)) > 0


def test_a_weight_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="the model has no such weight"):
        float_model().edited(HalfWeights(dtype="float16", weights=("nothing.weight",)))


@pytest.mark.parametrize("activations", [False, True])
def test_layers_are_compared_behind_their_batch_norms_whatever_is_converted_between(
    activations: bool,
) -> None:
    original = float_model()
    graph = canonical_graph(original.module, EXAMPLE)
    ratios = require_near(graph, served(halved(original, "float16", activations)), INPUTS, 50.0)
    assert list(ratios) == ["stem", "conv", "shortcut", "fc"]
